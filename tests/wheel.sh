#!/usr/bin/env bash
# Builds the wheel of the Python package, installs it into a fresh virtual environment, and runs a crew with nothing else than
# what that installed: the programs, the client, and the environment's own interpreter.
#   tests/wheel.sh          with the programs that cargo has built for the tests
#   tests/wheel.sh --full   with programs as they are shipped, and once more from the sdist; 20 minutes
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

python=$CREWFLEET_DIR/test-client/bin/python
uv=$CREWFLEET_DIR/uv/bin/uv
target=${CARGO_TARGET_DIR:-$PWD/target}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# The crew that says which interpreter runs it.
mkdir -p "$place/project/src/tale"
cat >"$place/project/src/tale/crew.py" <<'PY'
import sys


class Where:
    def kickoff(self, inputs):
        return {"prefix": sys.prefix, "topic": inputs["TOPIC"]}
PY

# build TARGET [VARIABLE=VALUE...]: prints the file.
build() {
    local kind=$1
    shift
    touch "$place/begun"
    (cd producer/python && env "$@" "$python" -m hatchling build --target "$kind" --directory "$place/dist") >&2
    find "$place/dist" -type f -newer "$place/begun"
}

# try WHEEL: as its user does.
try() {
    local wheel=$1 env=$place/env said
    rm -rf "$env"
    "$uv" venv --quiet --python "$python" "$env"
    "$uv" pip install --quiet --python "$env/bin/python" --constraint producer/python/tests/requirements.lock "$wheel"
    say "$(basename "$wheel"): $(du -h "$wheel" | cut -f 1), installed $(du -sh "$env" | cut -f 1)"
    as_user() { (cd "$place/project" && env -i HOME="$place/home" PATH="$env/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@"); }
    as_user crewfleet --version
    as_user crewfleet-worker --version
    as_user python -c 'import crewfleet; print(crewfleet.Fleet("amqp://guest:guest@127.0.0.1:5672/%2f").crew("tale"))'
    said=$(as_user crewfleet dev --once --target tale.crew:Where --input TOPIC=tea)
    [ "$("$python" -c 'import json, sys; print(json.loads(sys.argv[1])["result"]["json"])' "$said")" = \
        "{'prefix': '$env', 'topic': 'tea'}" ] || fail "the crew did not run in $env: $said"
}

mkdir "$place/home"
case ${1:-} in
'') try "$(build wheel CREWFLEET_BIN_DIR="$target/debug")" ;;
--full)
    try "$(build wheel CARGO_TARGET_DIR="$target")"
    sdist=$(build sdist)
    say "$(basename "$sdist"): $(du -h "$sdist" | cut -f 1)"
    mkdir "$place/sdist"
    tar -C "$place/sdist" --strip-components 1 -xzf "$sdist"
    (cd "$place/sdist" && CARGO_TARGET_DIR=$target "$python" -m hatchling build --target wheel --directory "$place/again")
    try "$(find "$place/again" -name "*.whl")"
    ;;
*) fail "$1 is not known" "say --full, or nothing" ;;
esac
