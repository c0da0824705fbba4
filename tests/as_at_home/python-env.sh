#!/usr/bin/env bash
# Makes .crewfleet/test-home: CrewAI's environment (deploy/python-env.sh makes it) with crewai-tools on top, which the public
# projects import. It is made once, and again when a lock file changes. Nothing is downloaded that the lock file does not
# name by its hash. Prints the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
source deploy/lib.sh

python=${CREWFLEET_PYTHON:-$CREWFLEET_DIR/python/bin/python}
lock=tests/as_at_home/requirements.lock
venv=$CREWFLEET_DIR/test-home
wanted=$(cat "$lock" deploy/python/requirements.lock | sha256sum)

[ -x "$python" ] || fail "$python is missing" "run deploy/python-env.sh, which makes it, or correct CREWFLEET_PYTHON"
if [ "$(cat "$venv/made-from-lock" 2>/dev/null)" != "$wanted" ]; then
    start=$SECONDS
    rm -rf "$venv"
    quietly test-home.log "$python" -m venv "$venv" || fail "$python could not make a virtual environment in $venv" "use a Python that has venv"
    # CrewAI itself is used where it is: a copy of it would take 1 GB.
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$packages" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/crewai.pth"
    python_packages "$venv/bin/python" "$lock"
    echo "$wanted" >"$venv/made-from-lock"
    took "made the Python environment of the public projects" "$start"
fi
echo "$venv/bin/python"
