#!/bin/bash
# One `pgrep -f` a service, as people write it: each walks through all processes.
#     pgrep.sh LIST
code=0
while IFS=$'\t' read -r name _ command _; do
    if ! pgrep -f "$command" >/dev/null; then
        echo "$name is not running"
        code=2
    fi
done <"$1"
exit $code
