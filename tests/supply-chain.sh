#!/usr/bin/env bash
# What crewfleet is made of: the licences, sources and known weaknesses of its packages, packages that nobody uses, and a list of
# all (SBOM, CycloneDX) in .crewfleet/sbom.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

tools=$CREWFLEET_DIR/test-tools/bin
sbom=$CREWFLEET_DIR/sbom

say "licences, bans and sources"
"$tools/cargo-deny" --locked check --hide-inclusion-graph licenses bans sources

say "packages that nobody uses"
"$tools/cargo-shear"

# The database of the Rust project is not ours to ship, and nothing of the internet but package registries is asked.
database=${CREWFLEET_ADVISORY_DB:-../shared/data/advisory-db}
if [ -d "$database" ]; then
    say "known weaknesses, by the advisory database in $database"
    "$tools/cargo-audit" audit --no-fetch --stale --db "$database"
else
    say "NOT CHECKED: known weaknesses. Clone RustSec's advisory-db, and name its folder in CREWFLEET_ADVISORY_DB"
fi

say "the list of all packages"
rm -rf "$sbom"
mkdir -p "$sbom"
# What is installed, and under the names by which it is recognised.
cp Cargo.lock "$sbom"
cp deploy/python/requirements.lock "$sbom/requirements.txt"
quietly sbom.log env SYFT_CHECK_FOR_APP_UPDATE=false "$tools/syft" scan "dir:$sbom" --source-name crewfleet \
    --output "cyclonedx-json=$sbom/crewfleet.cdx.json"
# Both worlds are in it: each package of Cargo.lock, and CrewAI with what it needs.
"$tools/python" - "$sbom/crewfleet.cdx.json" <<'END'
import json, pathlib, re, sys, tomllib

listed = {(part["name"], part.get("version")) for part in json.loads(pathlib.Path(sys.argv[1]).read_text())["components"]}
rust = {(p["name"], p["version"]) for p in tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"] if "source" in p}
pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", pathlib.Path("deploy/python/requirements.lock").read_text(), re.M)
missing = sorted((rust | set(pins)) - listed)
if missing or not pins:
    sys.exit(f"the list lacks {len(missing)} packages, as {missing[:5]}")
print(f"{len(rust)} Rust and {len(pins)} Python packages", file=sys.stderr)
END
