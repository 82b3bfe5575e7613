"""Serves a file system with one file, `page`: its first read fails, and no other is ever answered.

The number of an open /dev/fuse is the argument. Requests and answers are those of linux/fuse.h, version 7.31.
"""
import os
import struct
import sys

INIT, LOOKUP, FORGET, GETATTR, OPEN, READ, FLUSH = 26, 1, 2, 3, 14, 15, 25
BATCH_FORGET = 42
ROOT, PAGE = 1, 2
AN_HOUR = 3600

device = int(sys.argv[1])


def attributes(node):
    size, mode, links = (0, 0o40755, 2) if node == ROOT else (4096, 0o100644, 1)
    times = [0] * 6
    return struct.pack("<QQQ3Q3IIIIIIII", node, size, 1, *times, mode, links, 0, 0, 0, 4096, 0)


def answer(request, body=b"", error=0):
    os.write(device, struct.pack("<IiQ", 16 + len(body), error, request) + body)


reads = 0
while True:
    try:
        data = os.read(device, 1 << 20)
    except OSError:
        break
    _, kind, request, node = struct.unpack_from("<IIQQ", data)
    if kind == INIT:
        answer(request, struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0, 0) + bytes(28))
    elif kind == LOOKUP:
        answer(request, struct.pack("<QQQQII", PAGE, 0, AN_HOUR, AN_HOUR, 0, 0) + attributes(PAGE))
    elif kind == GETATTR:
        answer(request, struct.pack("<QII", AN_HOUR, 0, 0) + attributes(node))
    elif kind == OPEN:
        answer(request, struct.pack("<QII", 1, 0, 0))
    elif kind == READ:
        reads += 1
        if reads == 1:
            answer(request, error=-5)
    elif kind == FLUSH:
        answer(request)
    elif kind not in (FORGET, BATCH_FORGET):
        answer(request, error=-38)
