"""Prints the messages of a Maildir, in the order in which they came, as JSON: as Python's email package reads them."""

import email
import email.policy
import json
import os
import sys

directory = os.path.join(sys.argv[1], "new")
files = sorted(os.scandir(directory), key=lambda file: file.stat().st_mtime_ns) if os.path.isdir(directory) else []
messages = []
for file in files:
    with open(file.path, "rb") as stream:
        raw = stream.read()
    message = email.message_from_bytes(raw, policy=email.policy.default)
    messages.append(
        {
            "headers": [[name, str(value)] for name, value in message.items()],
            "defects": [str(defect) for defect in message.defects],
            "body": message.get_content().replace("\r\n", "\n"),
        }
    )
json.dump(messages, sys.stdout)
