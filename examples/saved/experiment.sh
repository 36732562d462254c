#!/bin/sh
# Two hosts, a server on one and nc on the other: save, exit, restore, go on. Nothing of this machine is touched: it runs in namespaces of
# its own, for which an ordinary user's rights are enough where the system allows user namespaces.
#
#   sh examples/saved/experiment.sh
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${INSIDE:-}" ]; then
  if [ "$(id -u)" -eq 0 ]; then exec env INSIDE=1 unshare --net sh "$0"; fi
  exec env INSIDE=1 unshare --user --map-root-user --net sh "$0"
fi

scratch=$(mktemp -d)
export TSUNAGI_ON_EXIT=snapshot TSUNAGI_DIR="$scratch/control" HOST=10.7.0.1 PORT=7007
server='' client='' other=''
finish() {
  for process in $server $client $other; do kill -KILL "$process" 2>/dev/null || true; done
  wait
  rm -rf "$scratch"
}
trap finish EXIT

# The other host, and a cable to it.
mkfifo "$scratch/up" "$scratch/typed"
unshare --net sh -c 'echo > "$1/up"; exec sleep 600' sh "$scratch" &
other=$!
read -r _ < "$scratch/up"
ip link set lo up
ip link add cable0 type veth peer name cable1 netns "$other"
ip addr add 10.7.0.1/24 dev cable0 && ip link set cable0 up
nsenter --target "$other" --net sh -c 'ip addr add 10.7.0.2/24 dev cable1 && ip link set cable1 up'

start() {
  node examples/saved/echo.js < /dev/null > "$scratch/$1" &
  server=$!
  until grep -q "$2" "$scratch/$1"; do sleep 0.1; done
  cat "$scratch/$1"
}
heard() {
  until grep -q "$1" "$scratch/heard"; do sleep 0.1; done
  echo "nc hears: $1"
}

start first listens
nsenter --target "$other" --net nc "$HOST" "$PORT" < "$scratch/typed" > "$scratch/heard" &
client=$!
exec 3> "$scratch/typed"
echo 'before' >&3
heard before

echo "process $server is stopped"
kill -INT "$server"
wait "$server" || true
echo 'in the gap' >&3
echo "nobody is there: $(ss --no-header --tcp | wc -l) TCP sockets on this host, for five seconds"
sleep 5

start second 'goes on'
heard 'in the gap'
echo 'after' >&3
heard after
echo "connections of the server now: $(ss --no-header --tcp state established | wc -l); packets held: $(nft list table inet tsunagi | grep -c expires || true)"
