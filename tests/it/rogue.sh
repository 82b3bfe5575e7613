#!/bin/sh
# A program that misbehaves as NAME.mood says: rogue.sh NAME. It counts its starts in NAME.starts, and has a helper.
dir=${0%/*}
name=$1
mood=
[ -f "$dir/$name.mood" ] && read -r mood <"$dir/$name.mood"
if [ "$mood" = daemon ] && [ -z "$AGAIN" ]; then
    AGAIN=1 setsid /bin/sh "$0" "$name" </dev/null &
    exit 0
fi
rm -f "$dir/$name.hang"
echo $$ >>"$dir/$name.starts"
# whose helper can be known for its own although nobody may ever have seen it well
if [ -z "$AGAIN$BY" ]; then
    echo $$ >>"$dir/$name.direct"
elif [ "$mood" = fails ]; then
    exit 3
fi
[ "$mood" = stubborn ] && trap '' TERM
"$dir/helper-$name" 100000 &
case $mood in
fails) exit 3 ;;
late) sleep 0.4 ;;
esac
[ "$mood" = nopid ] || echo $$ >"$dir/$name.pid"
case $mood in
brief) sleep 0.3; exit 0 ;;
esac
while :; do
    if [ -f "$dir/$name.log" ]; then
        [ -e "$dir/$name.hang" ] || echo tick >>"$dir/$name.log"
        sleep 0.3
    else
        read -r _ <>"$dir/hold"
    fi
done
