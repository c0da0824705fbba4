#!/usr/bin/env bash
# Python as ruff (.ruff.toml) and mypy (tests/mypy.ini) want it. Crews are left out of types: they are written as people
# write them, without. With --fix, it mends what ruff can mend.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

tools=$CREWFLEET_DIR/test-tools/bin
export RUFF_CACHE_DIR=$CREWFLEET_DIR/cache/ruff
failed=()

# typed NAME FOLDERS ARGUMENT...: types of what the arguments name; FOLDERS is where modules are looked for. Under another name
# it has a memory of its own, since other settings would make it forget.
typed() {
    local name=$1 folders=$2
    shift 2
    MYPYPATH=$folders "$tools/mypy" --no-error-summary --config-file tests/mypy.ini --cache-dir "$CREWFLEET_DIR/cache/mypy-$name" "$@" ||
        failed+=("mypy: $name")
}

if [ "${1:-}" = --fix ]; then
    "$tools/ruff" check --quiet --fix .
    "$tools/ruff" format --quiet .
fi
"$tools/ruff" check --quiet . || failed+=("ruff check")
"$tools/ruff" format --quiet --check . || failed+=("ruff format")

typed programs worker/python:tests/openai:tests/as_at_home worker/python/main.py worker/python/crewfleet_host tests/openai/serve.py \
    tests/openai/model_server tests/as_at_home/*.py tests/circles.py tests/benches/fleet/*.py deploy/compose/*.py
# The Python package and its examples, with what they stand on. Its settings are its own: of two files the later one counts.
of_client=(--config-file producer/python/pyproject.toml --python-executable "$CREWFLEET_DIR/test-client/bin/python")
typed client producer/python/src "${of_client[@]}" -p crewfleet
typed client producer/python/src "${of_client[@]}" deploy/examples/clients/*.py
typed ui tests/ui --python-executable "$CREWFLEET_DIR/test-ui/bin/python" tests/ui/*.py
# What unittest calls, and what a mixin finds in the class beside it, needs no types.
of_tests=(--allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-any-generics --disable-error-code attr-defined
    --no-warn-unused-ignores)
typed tests worker/python:tests/openai "${of_tests[@]}" worker/python/tests/*.py tests/helm/*.py tests/openai/tests
typed as_at_home tests/as_at_home "${of_tests[@]}" tests/as_at_home/tests

[ ${#failed[@]} = 0 ] || fail "not as they want it: ${failed[*]}" "mend what they say; tests/lint-python.sh --fix does some of it"
