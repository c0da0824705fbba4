#!/usr/bin/env bash
# Makes .crewfleet/python: a virtual environment with the pinned CrewAI of deploy/python/requirements.lock. It is made
# once, and again when the lock file changes. Nothing is downloaded that the lock file does not name by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

lock=deploy/python/requirements.lock
venv=$CREWFLEET_DIR/python
stamp=$venv/made-from-lock

# Two runs at once: the second waits for the first, and finds its work done.
exec 9>"$CREWFLEET_DIR/python.lock"
flock 9

wanted=$(sha256sum <"$lock")
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c pass 2>/dev/null; then exit 0; fi

# A Python of a version that CrewAI supports, and that can make a virtual environment (Debian's needs python3-venv).
usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}
# The system's own comes first: distributions build it with the compiler's optimisation by profile, which a Python that pyenv
# builds lacks. An import of CrewAI, which each start of a worker costs, takes it a quarter less.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then echo "$candidate" && return; fi
    done
    return 1
}
if ! python=$(find_python); then
    apt_install "the Python environment" python3 python3-venv
    python=$(find_python) ||
        fail "found no Python from 3.11 to 3.13 ($(python3 --version 2>&1))" "install one, and make it known as python3.11, python3.12 or python3.13"
fi

# show_progress: pip's output in, one line of progress out.
show_progress() {
    local line count=0 total
    total=$(grep -c '==' "$lock")
    while read -r line; do
        case $line in
            Collecting\ *)
                count=$((count + 1))
                if [ -t 2 ]; then
                    printf '\r\033[K  %d of %d packages: %s' "$count" "$total" "${line#Collecting }" >&2
                elif [ $((count % 25)) = 0 ]; then
                    say "$count of $total packages"
                fi
                ;;
            Installing\ collected*)
                if [ -t 2 ]; then printf '\r\033[K' >&2; fi
                say "unpacking $count packages ..."
                ;;
        esac
    done
}

start=$SECONDS
say "making the Python environment with CrewAI, once (a minute or two) ..."
rm -rf "$venv"
"$python" -m venv "$venv" || fail "$python could not make a virtual environment in $venv" "check that the disk has 2 GB free"
# The lock is complete, so nothing needs resolving. Compiled afterwards: that way all cores take part.
"$venv/bin/python" -m pip install --progress-bar off --disable-pip-version-check --no-cache-dir --require-hashes --no-deps --no-compile \
    --only-binary :all: --requirement "$lock" 2>&1 </dev/null | tee "$CREWFLEET_DIR/log/pip.log" | show_progress || {
    tail -n 20 "$CREWFLEET_DIR/log/pip.log" >&2
    fail "pip could not install $lock" "read the lines above; often the network, or a full disk (2 GB are needed)"
}
quietly pip-check.log "$venv/bin/python" -m pip check || fail "the packages of $lock don't fit together" "make the lock again, for $("$python" --version)"
# Some packages carry templates that are no valid Python: they are never imported.
"$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >"$CREWFLEET_DIR/log/compileall.log" 2>&1 || true
echo "$wanted" >"$stamp"
took "made the Python environment with CrewAI" "$start"
