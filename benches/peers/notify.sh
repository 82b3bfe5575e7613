#!/bin/bash
# notify.sh URL...: posts a line of text to each, one after the other, as people write it.
code=0
for url in "$@"; do
    curl -sf -m 10 -o /dev/null -H 'Content-Type: application/json' -d '{"text":"bot does not run"}' "$url" || code=2
done
exit $code
