#!/bin/sh
# A program to look after: prog.sh NAME [KEY=VALUE...]. NAME.rc, where it is there, has the last word. All of its
# files are beside it: NAME.starts gets a line a start, NAME.up one when it is up, NAME.signals one for each signal that it was told to tell.
dir=${0%/*}
name=$1
shift
pid_file= log= line=tick print= every=0.1 delay= workers=0 fork= forked= err= err_lines=1 after= exit= die= traps= exits= facts= files=
for option; do
    case $option in
    [a-z]*=*) eval "${option%%=*}=\${option#*=}" ;;
    esac
done
[ -f "$dir/$name.rc" ] && . "$dir/$name.rc"
# a shell can write to no file where it may have fewer descriptors than a dozen
[ -n "$files" ] && ulimit -S -n "$files"
if [ -n "$fork" ] && [ -z "$forked" ]; then
    setsid /bin/sh "$0" "$name" "$@" forked=1 &
    exit 0
fi
for signal in $traps; do trap "echo $signal >>'$dir/$name.signals'" "$signal"; done
for signal in $exits; do trap "echo $signal >>'$dir/$name.signals'; exit 0" "$signal"; done
echo $$ >>"$dir/$name.starts"
[ -n "$facts" ] && ls -l "/proc/$$/fd" >"$dir/$name.fds"
[ -p "$dir/$name.fifo" ] || mkfifo "$dir/$name.fifo"
[ -n "$delay" ] && sleep "$delay"
worker=0
while [ $worker -lt "$workers" ]; do
    (while :; do read -r _ <>"$dir/$name.fifo"; done) &
    echo $! >>"$dir/$name.workers"
    worker=$((worker + 1))
done
echo "$name" >>"$dir/order"
[ -n "$pid_file" ] && echo $$ >"$dir/$pid_file"
echo $$ >>"$dir/$name.up"
if [ -n "$err" ]; then
    count=1
    while [ $count -le "$err_lines" ]; do
        echo "$err $count" >&2
        count=$((count + 1))
    done
fi
[ -n "$after" ] && sleep "$after"
[ -n "$die" ] && kill "-$die" $$
[ -n "$exit" ] && exit "$exit"
while :; do
    if [ -n "$log$print" ]; then
        if [ ! -e "$dir/$name.freeze" ]; then
            [ -n "$log" ] && echo "$line" >>"$dir/$log"
            if [ -n "$print" ]; then
                echo "$line"
                echo "$line" >&2
                echo "$line" >>"$dir/$name.beats"
            fi
        fi
        sleep "$every"
    else
        read -r _ <>"$dir/$name.fifo"
    fi
done
