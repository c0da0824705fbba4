#!/usr/bin/env bash
# Measures the fleet against its yardsticks on a private RabbitMQ node: a table on stdout, .crewfleet/bench.json. Installs what it
# needs, and builds in release. Everything takes about an hour; single subjects take minutes. Leave the machine alone meanwhile.
#   tests/bench.sh [SUBJECT...] [--pairs N] [--stored N]     tests/bench.sh --help tells the subjects
#   CREWFLEET_BENCH_PROFILE=dev tests/bench.sh for-each --pairs 1     that it runs, as tests/run.sh --full checks; no figures
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source deploy/build-tools.sh

deploy/install-rabbitmq.sh
if [ -z "${CREWFLEET_PYTHON:-}" ]; then deploy/python-env.sh; fi
profile=${CREWFLEET_BENCH_PROFILE:-release}
# One workspace, so that the programs and the benchmark are built with the same features, once.
cargo build --profile "$profile" --locked --workspace --bins --benches
exec cargo bench --profile "$profile" --quiet --locked --workspace --bench fleet -- "$@"
