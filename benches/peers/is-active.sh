#!/bin/bash
# One `systemctl is-active` a unit, as people write it: each starts a program and asks systemd.
#     is-active.sh UNIT...
code=0
for unit in "$@"; do
    if ! systemctl is-active --quiet "$unit"; then
        echo "$unit is not active"
        code=2
    fi
done
exit $code
