#!/usr/bin/env bash
# Checks the Helm chart: lints and renders each value set of its ci/, validates the manifests, tests what they promise, and that
# values which cannot be are refused. Needs the debug build of both programs; installs Helm and the validators into .crewfleet.
#   tests/helm.sh          all of that
#   tests/helm.sh --full   and runs rendered Deployments with podman (tests/helm-run.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

chart=deploy/helm/crewfleet
CREWFLEET_HELM=$CREWFLEET_DIR/tools/helm/helm/helm
python=$CREWFLEET_DIR/test-tools/bin/python
CREWFLEET_WORKER=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/crewfleet-worker
export CREWFLEET_HELM CREWFLEET_WORKER
[ -x "$CREWFLEET_WORKER" ] || fail "$CREWFLEET_WORKER is missing" "build it: cargo build"

say "lint"
"$python" -m yamllint --strict --config-file tests/helm/yamllint.yaml "$chart"/*.yaml "$chart/ci" tests/helm/refused
for values in "$chart"/ci/*-values.yaml; do
    quietly helm-lint.log "$CREWFLEET_HELM" lint --strict --quiet "$chart" --values "$values"
    # Twice the same key in a manifest is an error that no parser reports.
    quietly helm-template.log "$CREWFLEET_HELM" template fleet "$chart" --values "$values" --output-dir "$CREWFLEET_DIR/helm"
    "$python" -m yamllint --strict --config-data '{rules: {key-duplicates: enable}}' "$CREWFLEET_DIR/helm"
    rm -r "$CREWFLEET_DIR/helm"
done

say "schemas and policies"
"$python" -m unittest discover --start-directory tests/helm

if [ "${1:-}" = --full ]; then tests/helm-run.sh; fi
