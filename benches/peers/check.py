#!/usr/bin/python3
"""A watchdog in Python with psutil as people write it: for each service of a list its process, its log's age and its
last lines.

    check.py LIST STATE
"""
import json
import os
import re
import sys
import time
from collections import deque

import psutil


def trouble(pid_file, command, log, pattern):
    try:
        with open(pid_file) as file:
            process = psutil.Process(int(file.read()))
        if process.status() == psutil.STATUS_ZOMBIE:
            return "is a zombie"
        if not re.search(command, " ".join(process.cmdline())):
            return "is another program"
    except (OSError, ValueError, psutil.Error):
        return "is not running"
    try:
        if time.time() - os.path.getmtime(log) > 300:
            return "has a log that is frozen"
        with open(log, errors="replace") as file:
            last = deque(file, maxlen=100)
    except OSError:
        return "has no log"
    if not any(re.search(pattern, line) for line in last):
        return "has a log without the pattern"
    return None


def main():
    path, state_path = sys.argv[1:]
    try:
        with open(state_path) as file:
            state = json.load(file)
    except (OSError, ValueError):
        state = {}
    code = 0
    with open(path) as services:
        for line in services:
            name, *service = line.rstrip("\n").split("\t")
            problem = trouble(*service)
            if problem:
                print(name, problem)
                state[name] = state.get(name, 0) + 1
                code = 2
    with open(state_path + ".new", "w") as file:
        json.dump(state, file)
    os.replace(state_path + ".new", state_path)
    return code


if __name__ == "__main__":
    sys.exit(main())
