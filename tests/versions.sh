#!/usr/bin/env bash
# Runs the crew host's tests with each CrewAI and Python of the table below, and prints what came of it. An hour, and 1 GB a row,
# on two cores: tests/run.sh runs it only when named. A row whose Python is not found here is shown as not tried.
#   tests/versions.sh                    all rows
#   tests/versions.sh 1.4.1 1.10.1       the rows of these CrewAIs
#   CREWFLEET_VERSIONS_DIR=/big/disk tests/versions.sh    the environments go there, instead of .crewfleet/versions
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/pythons.sh

# CrewAI, Python. The lowest that works is first (LOWEST_CREWAI of worker/python/crewfleet_host/features.py), and the pinned one
# of deploy/python is last, in each Python that it supports. What lies between is what changed most for us: events of their own
# thread (1.0), event ids (1.10).
rows=("0.177.0 3.11" "0.203.2 3.12" "1.4.1 3.12" "1.10.1 3.12" "1.15.30 3.10" "1.15.30 3.11" "1.15.30 3.12" "1.15.30 3.13")
export CREWFLEET_TEST_FULL=1
environments=${CREWFLEET_VERSIONS_DIR:-$CREWFLEET_DIR/versions}

# environment CREWAI PYTHON INTERPRETER: makes it, once for each lock file; prints its interpreter.
environment() {
    local lock=tests/versions/crewai-$1.lock folder=$environments/crewai-$1-python$2 start=$SECONDS
    if ! is_made "$folder" "$lock"; then
        rm -rf "$folder"
        mkdir -p "$environments"
        quietly versions-venv.log "$3" -m venv "$folder" || return 1
        quietly versions-pip.log nice "$folder/bin/python" -m pip install --disable-pip-version-check --no-deps --only-binary :all: \
            --requirement "$lock" || return 1
        mark_made "$folder" "$lock"
        took "made the environment of CrewAI $1 and Python $2" "$start"
    fi
    echo "$folder/bin/python"
}

# From Python 3.12 on unittest ends with 5 where all tests of a file were skipped.
# shellcheck disable=SC2016  # expanded by the shell that runs it
run_file='"$0" -W error::ResourceWarning -m unittest "$1" || [ $? = 5 ]'

# sums LOG: the tests of all files together.
sums() {
    awk '/^Ran /{ran += $2} match($0, /skipped=[0-9]+/){skipped += substr($0, RSTART + 8, RLENGTH - 8)}
        match($0, /failures=[0-9]+/){bad += substr($0, RSTART + 9, RLENGTH - 9)}
        match($0, /errors=[0-9]+/){bad += substr($0, RSTART + 7, RLENGTH - 7)}
        END{printf "%d tests, %d not of this version, %d failed", ran, skipped, bad}' "$1"
}

# main.py has to say in any Python that it is too old.
old_pythons() {
    local version python frame
    for version in 2.7 3.6 3.7 3.8 3.9; do
        python=$(command -v "python$version" || compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python" | head -n 1) || true
        if [ -z "$python" ]; then
            table+=("$(printf '%-9s %-7s not tried: no python%s here' - "$version" "$version")")
            continue
        fi
        # Standard input is a file, which takes the frame as the socket would.
        frame=$(mktemp)
        "$python" worker/python/main.py fork-server /nowhere 0<>"$frame" || true
        if grep -q '"unsupported_version".*is too old: kickoffs need Python' "$frame"; then
            table+=("$(printf '%-9s %-7s refused, as it should be' - "$version")")
        else
            table+=("$(printf '%-9s %-7s FAILED: it does not say that it is too old' - "$version")")
            failed=1
        fi
        rm -f "$frame"
    done
}

# run_row CREWAI PYTHON: adds its line to the table.
run_row() {
    local interpreter log start=$SECONDS outcome
    log=$CREWFLEET_DIR/log/versions-$1-$2.log
    if ! interpreter=$(find_python "$2"); then
        outcome="not tried: no python$2 here"
    elif ! interpreter=$(environment "$1" "$2" "$interpreter"); then
        outcome="FAILED: its environment could not be made"
        failed=1
    elif (cd worker/python/tests && printf '%s\n' test_*.py | nice xargs -P 2 -I FILE sh -c "$run_file" "$interpreter" FILE) \
        >"$log" 2>&1 </dev/null; then
        outcome="OK: $(sums "$log")"
    else
        outcome="FAILED: $(sums "$log"), see $log"
        failed=1
    fi
    table+=("$(printf '%-9s %-7s %s (%d s in all)' "$1" "$2" "$outcome" $((SECONDS - start)))")
    say "${table[-1]}"
}

failed=0
table=("$(printf '%-9s %-7s %s' CrewAI Python "")")
for row in "${rows[@]}"; do
    read -r crewai python <<<"$row"
    [ $# = 0 ] || [[ " $* " == *" $crewai "* ]] || continue
    run_row "$crewai" "$python"
done
[ $# -gt 0 ] || old_pythons
printf '%s\n' "${table[@]}"
exit "$failed"
