#!/bin/sh
# A stand-in for a real program: it works for ever, and says so every second.
n=0
while :; do
    n=$((n + 1))
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) tick $n"
    sleep 1
done
