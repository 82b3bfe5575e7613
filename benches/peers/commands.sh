#!/bin/bash
# commands.sh LIST: whether commands succeed, as people write it.
code=0
while read -r command; do
    if ! timeout 10 "$command" >/dev/null 2>&1; then
        echo "$command failed"
        code=2
    fi
done <"$1"
exit $code
