#!/usr/bin/env bash
# Validates what is in deploy/ with the programs that it is for. Needs the debug build, and what tests/test-env.sh makes.
#   tests/deploy.sh         all that takes seconds
#   tests/deploy.sh --full  and has each alert fire, builds the images, and runs them, the Compose file, rendered Deployments
#                           and the units of systemd; needs root, installs Docker and podman without their services
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/tools.sh

say "alert and recording rules"
promtool=$(unpacked prometheus usr/bin/promtool)
(cd deploy/monitoring && "$promtool" check rules rules.yaml && "$promtool" check config prometheus.yaml)
if [ "${1:-}" = --full ]; then (cd deploy/monitoring && "$promtool" test rules rules.test.yaml rules.slow.test.yaml); fi
"$(unpacked prometheus-alertmanager usr/bin/amtool)" check-config deploy/monitoring/alertmanager.yaml

say "systemd units"
command -v systemd-analyze >/dev/null || apt_install "checking systemd's units" systemd
# verify asks for the program, which is not installed here; and it exits 0 on values that it does not understand, but says so.
checked=$(mktemp -d)
trap 'rm -rf "$checked"' EXIT
for unit in deploy/systemd/*.service; do
    sed "s|^ExecStart=/usr/local/bin/[a-z-]* |ExecStart=$(command -v true) |" "$unit" >"$checked/$(basename "$unit")"
    complaints=$(systemd-analyze verify "$checked/$(basename "$unit")" 2>&1) || true
    [ -z "$complaints" ] || fail "systemd complains about $unit: $complaints" "correct the unit"
    quietly systemd.log systemd-analyze security --offline=true --threshold=30 --no-pager "$unit"
done
# What systemd grants, and what the worker is told that it grants, are one number.
unit=deploy/systemd/crewfleet-worker@.service
[ "$(sed -n 's/^TimeoutStopSec=//p' "$unit")" = "$(sed -n 's/^Environment=CREWFLEET__WORKER__TERMINATION_GRACE_S=//p' "$unit")" ] ||
    fail "TimeoutStopSec and CREWFLEET__WORKER__TERMINATION_GRACE_S differ in $unit" "make them one number"
# The gateway's files are where systemd lets it write, and nobody else read.
unit=deploy/systemd/crewfleet-gateway.service
folder=$(sed -n 's/^StateDirectory=//p' "$unit")
for key in STORE__FILE TOKENS_USED_FILE; do
    grep --quiet "^Environment=CREWFLEET__GATEWAY__$key=%S/${folder:-none}/" "$unit" ||
        fail "$unit does not put CREWFLEET__GATEWAY__$key into its state directory" "name it below %S/ and StateDirectory"
done
grep --quiet '^StateDirectoryMode=0700$' "$unit" || fail "others may read the state directory of $unit" "set StateDirectoryMode=0700"

tests/helm.sh "$@"
tests/images.sh "$@"
tests/compose.sh "$@"
if [ "${1:-}" = --full ]; then tests/systemd-run.sh; fi
