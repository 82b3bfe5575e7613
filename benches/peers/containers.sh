#!/bin/bash
# containers.sh LIST: whether the containers run, as people write it.
code=0
running=$(docker ps --format '{{.Names}}')
while read -r name; do
    if ! grep -qx "$name" <<<"$running"; then
        echo "$name does not run"
        code=2
        continue
    fi
    state=$(docker inspect --format '{{.State.Status}}{{if .State.Health}} {{.State.Health.Status}}{{end}}' "$name")
    case $state in
    running | "running healthy") ;;
    *)
        echo "$name is $state"
        code=2
        ;;
    esac
done <"$1"
exit $code
