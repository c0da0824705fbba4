#!/usr/bin/env bash
# Measures the fleet against its yardsticks on a private RabbitMQ node: a table on stdout, .crewfleet/bench.json. Installs what it
# needs, and builds in release. Everything takes about an hour; single subjects take minutes.
#   tests/bench.sh [SUBJECT...] [--pairs N]     tests/bench.sh --help tells the subjects
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source deploy/build-tools.sh

deploy/install-rabbitmq.sh
if [ -z "${CREWFLEET_PYTHON:-}" ]; then deploy/python-env.sh; fi
# One workspace, so that the programs and the benchmark are built with the same features, once.
cargo build --release --locked --workspace --bins --benches
exec cargo bench --quiet --locked --workspace --bench fleet -- "$@"
