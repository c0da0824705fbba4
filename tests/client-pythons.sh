#!/usr/bin/env bash
# Runs the tests of the Python package in each Python that it is for. A Python that is not found here is shown as not tried.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/pythons.sh

lock=producer/python/tests/requirements.lock
tried=0

for version in 3.10 3.11 3.12 3.13; do
    python=$(find_python "$version") || { say "Python $version is not here: not tried" && continue; }
    environment=$CREWFLEET_DIR/client-pythons/$version
    if ! is_made "$environment" "$lock"; then
        rm -rf "$environment"
        "$python" -m venv "$environment"
        python_packages "$environment/bin/python" "$lock"
        mark_made "$environment" "$lock"
    fi
    (cd producer/python && PYTHONPATH=src "$environment/bin/python" -m pytest -q -p crewfleet.pytest_plugin -p no:cacheprovider) ||
        fail "the package's tests fail with Python $version" "read the lines above"
    tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || fail "no Python of 3.10 to 3.13 was found" "install one, or pyenv"
