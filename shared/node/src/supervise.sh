# Runs one program (a private RabbitMQ node with its epmd, or a worker of `crewfleet dev`), and sees to it that nothing of
# it outlives the process that asked for it.
#   CREWFLEET_SUPERVISE=$(cat supervise.sh) sh -c 'eval "$CREWFLEET_SUPERVISE"' crewfleet-supervisor FOLDER keep|remove EPMD-PORT|'' LOG|'' PROGRAM [ARGUMENT...]
# Commands come as lines on stdin: `stop` (SIGTERM, clean) and `kill`. The end of stdin means that the owner is gone,
# however it went: then everything is killed, and a folder marked `remove` is removed. The exit status is the program's;
# 75 says that the folder belongs to one that still runs.
# The Erlang VM puts its helpers into sessions of their own, as a worker does with its crews, so no process group holds
# all of them: what does is CREWFLEET_SUPERVISED in the environment of each.
unset CREWFLEET_SUPERVISE
folder=$1 at_end=$2 epmd_port=$3 log=$4
shift 4

its_processes() {
    grep -lzsxF "CREWFLEET_SUPERVISED=$folder" /proc/[0-9]*/environ | cut -d/ -f3
}

# Ends every process of the program. Again and again, because one may just have forked another.
sweep() {
    while pids=$(its_processes) && [ -n "$pids" ]; do
        # shellcheck disable=SC2086  # one word a process
        kill -KILL $pids 2>/dev/null
        sleep 0.01
    done
}

# The lock is this shell's, not the program's: who gets it while processes of the program are left finds one whose
# supervisor was killed, and ends it.
exec 3<&0 </dev/null 9>>"$folder/lock"
flock --wait 5 9 || exit 75
sweep
if [ -n "$log" ]; then
    [ ! -e "$log" ] || mv -f "$log" "$log.old"
    exec >"$log" 2>&1
fi

# A worker's environment can't be read by others of its user: it goes with this shell by the kernel's word.
CREWFLEET_SUPERVISED=$folder setpriv --pdeathsig KILL "$@" 3<&- 9>&- &
program=$!
if [ -n "$epmd_port" ]; then
    (
        CREWFLEET_SUPERVISED=$folder epmd -address 127.0.0.1 -port "$epmd_port" 3<&- 9>&-
        if kill -0 "$program" 2>/dev/null; then
            echo "epmd has ended before the node. Its port $epmd_port must be in use by another process."
            sweep
        fi
    ) &
fi

(
    while read -r command; do
        [ "$command" = stop ] || break
        kill -TERM "$program"
    done
    if [ "$command" != kill ] && [ "$at_end" = remove ]; then : >"$folder/abandoned"; fi
    kill -KILL "$program" 2>/dev/null
    sweep
) <&3 &
watcher=$!

wait "$program"
status=$?
sweep
kill -TERM "$watcher" 2>/dev/null
wait
if [ -e "$folder/abandoned" ]; then rm -rf "$folder"; fi
exit "$status"
