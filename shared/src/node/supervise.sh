# Runs one private RabbitMQ node and its epmd, and sees to it that neither outlives the process that asked for them.
#   sh -c "$(cat supervise.sh)" crewfleet-node FOLDER SERVER keep|remove
# Commands come as lines on stdin: `stop` (SIGTERM, clean) and `kill`. The end of stdin means that the owner is gone,
# however it went: then everything is killed, and a folder marked `remove` is removed. The exit status is the node's;
# 75 says that the folder belongs to a node that still runs.
# The Erlang VM puts its helpers into sessions of their own, so no process group holds the whole node: what does is
# CREWFLEET_NODE in the environment of each of its processes.
folder=$1 server=$2 at_end=$3

node_processes() {
    grep -lzsxF "CREWFLEET_NODE=$folder" /proc/[0-9]*/environ | cut -d/ -f3
}

# Ends every process of the node. Again and again, because one may just have forked another.
sweep() {
    while pids=$(node_processes) && [ -n "$pids" ]; do
        # shellcheck disable=SC2086  # one word a process
        kill -KILL $pids 2>/dev/null
        sleep 0.01
    done
}

# The lock is this shell's, not the node's: who gets it while processes of the node are left finds a node whose
# supervisor was killed, and ends it.
exec 3<&0 </dev/null 9>>"$folder/lock"
flock --wait 5 9 || exit 75
sweep
[ ! -e "$folder/node.log" ] || mv -f "$folder/node.log" "$folder/node.log.old"
exec >"$folder/node.log" 2>&1

CREWFLEET_NODE=$folder "$server" 3<&- 9>&- &
node=$!
(
    CREWFLEET_NODE=$folder epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" 3<&- 9>&-
    if kill -0 "$node" 2>/dev/null; then
        echo "epmd has ended before the node. Its port $ERL_EPMD_PORT must be in use by another process."
        sweep
    fi
) &

(
    while read -r command; do
        [ "$command" = stop ] || break
        kill -TERM "$node"
    done
    if [ "$command" != kill ] && [ "$at_end" = remove ]; then : >"$folder/abandoned"; fi
    sweep
) <&3 &
watcher=$!

wait "$node"
status=$?
sweep
kill -TERM "$watcher" 2>/dev/null
wait
if [ -e "$folder/abandoned" ]; then rm -rf "$folder"; fi
exit "$status"
