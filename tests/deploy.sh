#!/usr/bin/env bash
# Validates what is in deploy/ with the programs that it is for. Installs nothing: what it needs is unpacked from Debian's packages
# into .crewfleet/tools.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

tools=$CREWFLEET_DIR/tools

# download PACKAGE: into a folder of its own.
download() {
    rm -rf "$tools/$1.new"
    mkdir -p "$tools/$1.new"
    (cd "$tools/$1.new" && quietly "$1.log" apt-get download "$1")
}

# unpacked PACKAGE PROGRAM: the path of a program of a Debian package, which is downloaded and unpacked where it is missing.
unpacked() {
    local path="$tools/$1/$2"
    if [ ! -x "$path" ]; then
        # Package lists that are old or missing are fetched, once.
        download "$1" || { quietly apt.log as_root apt-get update && download "$1"; } ||
            fail "could not download Debian's package $1" "read the lines above; often the network"
        dpkg-deb --extract "$tools/$1.new"/*.deb "$tools/$1.new"
        rm -rf "${tools:?}/$1" "$tools/$1.new"/*.deb
        mv "$tools/$1.new" "$tools/$1"
    fi
    printf '%s\n' "$path"
}

say "alert and recording rules"
promtool=$(unpacked prometheus usr/bin/promtool)
(cd deploy/monitoring && "$promtool" check rules rules.yaml && "$promtool" test rules rules.test.yaml)
say "systemd units"
command -v systemd-analyze >/dev/null || apt_install "checking systemd's units" systemd
# verify asks for the program, which is not installed here; and it exits 0 on values that it does not understand, but says so.
checked=$(mktemp -d)
trap 'rm -rf "$checked"' EXIT
for unit in deploy/systemd/*.service; do
    sed "s|^ExecStart=/usr/local/bin/crewfleet-worker |ExecStart=$(command -v true) |" "$unit" >"$checked/$(basename "$unit")"
    complaints=$(systemd-analyze verify "$checked/$(basename "$unit")" 2>&1) || true
    [ -z "$complaints" ] || fail "systemd complains about $unit: $complaints" "correct the unit"
    quietly systemd.log systemd-analyze security --offline=true --threshold=30 --no-pager "$unit"
    # What systemd grants, and what the worker is told that it grants, are one number.
    [ "$(sed -n 's/^TimeoutStopSec=//p' "$unit")" = "$(sed -n 's/^Environment=CREWFLEET__WORKER__TERMINATION_GRACE_S=//p' "$unit")" ] ||
        fail "TimeoutStopSec and CREWFLEET__WORKER__TERMINATION_GRACE_S differ in $unit" "make them one number"
done
