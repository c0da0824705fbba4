#!/usr/bin/env bash
# Makes .crewfleet/python: a virtual environment with the pinned CrewAI of deploy/python/requirements.lock. It is made
# once, and again when the lock file changes. Nothing is downloaded that the lock file does not name by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

lock=deploy/python/requirements.lock
venv=$CREWFLEET_DIR/python

# Two runs at once: the second waits for the first, and finds its work done.
exec 9>"$CREWFLEET_DIR/python.lock"
flock 9

if is_made "$venv" "$lock" && "$venv/bin/python" -c pass 2>/dev/null; then exit 0; fi

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

start=$SECONDS
say "making the Python environment with CrewAI, once (half a minute) ..."
rm -rf "$venv"
"$python" -m venv "$venv" || fail "$python could not make a virtual environment in $venv" "check that the disk has 2 GB free"
python_packages "$venv/bin/python" "$lock"
quietly pip-check.log "$venv/bin/python" -m pip check || fail "the packages of $lock don't fit together" "make the lock again, for $("$python" --version)"
# So is compiled what an import of CrewAI compiles. All the packages would take three times as long, and most is never imported.
quietly import.log env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c 'import crewai' || fail "CrewAI cannot be imported" "read the lines above"
mark_made "$venv" "$lock"
took "made the Python environment with CrewAI" "$start"
