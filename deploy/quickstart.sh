#!/usr/bin/env bash
# From a fresh checkout to a crew's result: installs what is missing, builds, and hands over to `crewfleet dev`, which
# gets all arguments. Needs Rust, and root or sudo where something has to be installed.
#   deploy/quickstart.sh                                      the example crew, then keeps running until Ctrl-C
#   deploy/quickstart.sh --once                               ends after the result; the reply is the last line of stdout
#   deploy/quickstart.sh --target pkg.crew:MyCrew --path src  your own crew
set -euo pipefail

# Before anything is installed or built: whoever asks for help has not decided yet.
for argument in "$@"; do
    case $argument in
    --) break ;;
    -h | --help)
        cat <<'HELP'
Usage: deploy/quickstart.sh [OPTIONS]

Installs what is missing (RabbitMQ, a Python environment with CrewAI), builds crewfleet, and runs `crewfleet dev`,
which gets all options. The first run takes some 20 minutes.

  --once               End after the result: the reply is the last line of stdout
  --target TARGET      Your own crew: package.module:Name, a Python file or a project's folder; without it the example crew
  --path FOLDER        The folder that holds the target's package
  --input KEY=VALUE    An input; may be given several times
  --inputs FILE        All inputs: a file with a JSON object, - for stdin
  --python PYTHON      The Python to run the crew with
  -v, --verbose        Show every event of the kickoff, and more of what is started
  -h, --help           Print this

Variables: CREWFLEET__BROKER__URL names a broker to use instead of a private one, CREWFLEET_PYTHON a Python environment.
Once it is built, `crewfleet dev --help` lists all options.
HELP
        exit 0
        ;;
    esac
done

here=$PWD
cd "$(dirname "$0")/.."
source deploy/lib.sh
source deploy/build-tools.sh

if [ -n "${CREWFLEET__BROKER__URL:-}" ]; then
    say "using the broker of CREWFLEET__BROKER__URL"
else
    deploy/install-rabbitmq.sh
fi

if [ -z "${CREWFLEET_PYTHON:-}" ]; then
    deploy/python-env.sh
    export CREWFLEET_PYTHON="$CREWFLEET_DIR/python/bin/python"
fi

start=$SECONDS
say "building ..."
# Unoptimised: it is built in half the time, and the crews, which are Python, run as fast. tests/run.sh names what it has built:
# dependencies have other features there, and most of them would be built once more.
read -ra targets <<<"${CREWFLEET_BUILD_TARGETS:-}"
cargo build --locked "${targets[@]}" >&2 ||
    fail "cargo could not build crewfleet" "read the lines above; with an old Rust, run 'rustup update stable'"
took "built" "$start"

crewfleet=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/crewfleet
cd "$here"
exec "$crewfleet" dev "$@"
