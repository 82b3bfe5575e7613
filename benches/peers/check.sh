#!/bin/bash
# A watchdog in bash as people write it: for each service of a list its process, its log's age and its last lines.
#     check.sh LIST STATE
list=$1
state=$2

declare -A restarts
if [ -f "$state" ]; then
    while read -r name count; do restarts[$name]=$count; done <"$state"
fi

code=0
while IFS=$'\t' read -r name pid_file command log pattern; do
    problem=
    pid=$(cat "$pid_file" 2>/dev/null)
    if [ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null; then
        problem="is not running"
    elif ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q -- "$command"; then
        problem="is another program"
    elif [ ! -f "$log" ]; then
        problem="has no log"
    elif [ $(($(date +%s) - $(stat -c %Y "$log"))) -gt 300 ]; then
        problem="has a log that is frozen"
    elif ! tail -n 100 "$log" | grep -qE "$pattern"; then
        problem="has a log without the pattern"
    fi
    if [ -n "$problem" ]; then
        echo "$name $problem"
        restarts[$name]=$((${restarts[$name]:-0} + 1))
        code=2
    fi
done <"$list"

for name in "${!restarts[@]}"; do
    echo "$name ${restarts[$name]}"
done >"$state.new"
mv "$state.new" "$state"
exit $code
