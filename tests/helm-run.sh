#!/usr/bin/env bash
# Runs the Deployments that the Helm chart renders, with podman, beside a private RabbitMQ node: a kickoff is answered, one by AMQP
# and one by HTTP, and a SIGTERM lets one finish. Needs root, and the debug build of the whole workspace; installs podman. Not run:
# probes, and the time between SIGTERM and SIGKILL is given to podman by hand, since Debian's knows neither.
#   CREWFLEET_IMAGE   a worker's image for `podman pull`, as in oci-archive:worker.tar; by default one of the debug build alone
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
helm=$CREWFLEET_DIR/tools/helm/helm/helm
worker=fleet-crewfleet-trial-pod-0-worker
gateway=fleet-crewfleet-gateway-pod-0-gateway
[ "$(id -u)" = 0 ] || fail "a Deployment is run as root" "run tests/helm-run.sh as root"
for program in podman runc catatonit slirp4netns curl jq; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ -z "${missing:-}" ] || apt_install "running a Deployment" "${missing[@]}"

# All that podman writes is in this run's folder. The limits: its own are more than a container may have.
work=$(mktemp -d)
log=$CREWFLEET_DIR/log/helm-run.log
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf
cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "$work/tmp"
[network]
network_config_dir = "$work/net"
CONF
cat >"$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
CONF
clean_up() {
    podman kube down "$work/play.yaml"
    if [ -n "${node:-}" ]; then kill "$node"; fi
    rm -rf "$work"
} &>>"$log"
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# image_of_build PROGRAM: the program and the libraries that it is linked with.
image_of_build() {
    local file target
    for file in "$bin/$1" $(ldd "$bin/$1" | grep -o '/[^ ]*'); do
        if [ "$file" = "$bin/$1" ]; then target=/usr/local/bin/$1; else target=$file; fi
        install -D "$file" "$work/$1$target"
    done
    printf 'FROM scratch\nCOPY . /\nENTRYPOINT ["/usr/local/bin/%s"]\n' "$1" | podman build --quiet --file - "$work/$1"
}

say "an image and a node"
: >"$log"
if [ -n "${CREWFLEET_IMAGE:-}" ]; then image=$(podman pull --quiet "$CREWFLEET_IMAGE"); else image=$(image_of_build crewfleet-worker); fi
podman tag "$image" localhost/crewfleet-helm-run:test
podman tag "$(image_of_build crewfleet)" localhost/crewfleet-helm-run-gateway:test

exec {ready}< <(exec "$bin/node-owner" 2>>"$log")
node=$!
read -r -t 120 -u "$ready" folder || fail "the RabbitMQ node did not start" "read $log"
port=$(sed -n 's/.*started TCP listener on 127.0.0.1:\([0-9]*\).*/\1/p' "$folder/node.log")

# The Secrets as this podman keeps those that pods mount. 10.0.2.2 is the loopback interface of this machine.
printf 'data: {broker-url: "amqp://guest:guest@10.0.2.2:%s/%%2f"}\n' "$port" | podman secret create crewfleet-broker - >>"$log"
token=$(CREWFLEET__GATEWAY__TOKENS_FILE=$work/tokens.json "$bin/crewfleet" token create trial --crew echo 2>>"$log")
jq --raw-input --slurp '{data: {"tokens.json": .}}' "$work/tokens.json" | podman secret create crewfleet-tokens - >>"$log"
"$helm" template fleet deploy/helm/crewfleet --values tests/helm/run-values.yaml --show-only templates/configmap.yaml \
    --show-only templates/deployment.yaml --show-only templates/gateway/configmap.yaml \
    --show-only templates/gateway/deployment.yaml >"$work/play.yaml" 2>>"$log"
# grace DEPLOYMENT
grace() {
    awk -v name="$1" '$1 == "name:" && !named { named = $2 } $1 == "kind:" { named = "" }
        $1 == "terminationGracePeriodSeconds:" && named == name { print $2 }' "$work/play.yaml"
}

# await FD WORDS: reads lines until one has the words, for a minute.
await() {
    local line until=$((SECONDS + 60))
    while [ $SECONDS -lt $until ] && read -r -t 60 -u "$1" line; do
        if [[ $line == *"$2"* ]]; then return; fi
    done
    fail "nothing says $2" "read the last lines: $(podman logs --tail 5 "$worker" 2>&1; podman logs --tail 5 "$gateway" 2>&1)"
}
# said CONTAINER WORDS: waits until it has logged them.
said() {
    local lines follower
    exec {lines}< <(exec podman logs --follow "$1" 2>&1)
    follower=$!
    await "$lines" "$2"
    kill "$follower"
    wait "$follower" || true
    exec {lines}<&-
}
# expect WHAT WANTED GOT
expect() { [ "$3" = "$2" ] || fail "$1 is \"$3\", not \"$2\"" "compare the chart's deployment.yaml with podman inspect"; }
# kickoff CREW ARGUMENT...
kickoff() { "$bin/crewfleet" --broker-url "amqp://guest:guest@127.0.0.1:$port/%2f" kickoff --timeout 60 "$@"; }

# As Kubernetes' emptyDirs are: root's, and writable for the pod's fsGroup. Podman would give them to the worker.
for volume in data store tmp; do
    podman volume create --opt o=uid=0,gid=65532 "$volume" >>"$log"
    chmod 2777 "$(podman volume inspect --format '{{.Mountpoint}}' "$volume")"
done

# confined CONTAINER MEMORY
confined() {
    expect "who runs it" 65532:65532 "$(podman inspect --format '{{.Config.User}}' "$1")"
    expect "whether its root is read-only" true "$(podman inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$1")"
    expect "what it is capable of" "[]" "$(podman inspect --format '{{.EffectiveCaps}}' "$1")"
    expect "its memory" "$2" "$(podman inspect --format '{{.HostConfig.Memory}}' "$1")"
}
# call PATH [CURL ARGUMENT...]: the gateway's API, within its pod.
call() {
    nsenter --target "$(podman inspect --format '{{.State.Pid}}' "$gateway")" --net \
        curl --silent --show-error --fail --max-time 5 --header "Authorization: Bearer $token" "${@:2}" "http://127.0.0.1:$1"
}
# repeated SECONDS COMMAND...: until it succeeds.
repeated() {
    local until=$((SECONDS + $1))
    until "${@:2}" >>"$log" 2>&1; do
        [ $SECONDS -lt $until ] || fail "not within $1 s: ${*:2}" "read the gateway's last lines: $(podman logs --tail 5 "$gateway" 2>&1)"
        sleep 0.2
    done
}
has_succeeded() { [[ $(call "8080/status/$1") == *'"state":"SUCCESS"'* ]]; }

say "the Deployments"
quietly helm-play.log podman kube play --network slirp4netns:allow_host_loopback=true "$work/play.yaml"
said "$worker" '"message":"ready"'
confined "$worker" 536870912
expect "the reply" '{"a":"b"}' "$(kickoff echo --input a=b 2>>"$log")"

say "the gateway"
repeated 60 call 9465/readyz
confined "$gateway" 268435456
answer=$(call 8080/kickoff --data '{"inputs": {"a": "b"}}')
repeated 60 has_succeeded "$(jq --raw-output .kickoff_id <<<"$answer")"
[ -s "$(podman volume inspect --format '{{.Mountpoint}}' store)/store.sqlite" ] ||
    fail "the gateway's store is not in its volume" "compare the chart's gateway/deployment.yaml with _gateway.tpl"
podman stop --time "$(grace fleet-crewfleet-gateway)" "$gateway" >>"$log" 2>&1
expect "its exit code" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$gateway")"

say "SIGTERM while a kickoff runs"
exec {events}< <(kickoff sleep --inputs - --follow --json 2>&1 <<<'{"seconds": 5}')
await "$events" kickoff_started
podman stop --time "$(grace fleet-crewfleet-trial)" "$worker" >>"$log" 2>&1
expect "its exit code" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$worker")"
reply=$(cat <&"$events")
[[ $reply == *'"status":"succeeded"'*'"attempt":1,'* ]] ||
    fail "the kickoff was not let finish: $reply" "read worker/src/lifecycle/drain.rs"
[[ $(podman logs "$worker" 2>&1) == *'"message":"worker ends"'* ]] ||
    fail "the worker did not end by itself" "read worker/src/lifecycle/drain.rs"
say "the rendered Deployments work"
