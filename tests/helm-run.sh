#!/usr/bin/env bash
# Runs a Deployment that the Helm chart renders, with podman, beside a private RabbitMQ node: a kickoff is answered, and a SIGTERM
# lets one finish. Needs root, and the debug build of the whole workspace; installs podman. Not run: probes, and the time between
# SIGTERM and SIGKILL is given to podman by hand, since Debian's knows neither.
#   CREWFLEET_IMAGE   an image for `podman pull`, as in oci-archive:worker.tar; by default one that holds the debug build alone
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

bin=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
helm=$CREWFLEET_DIR/tools/helm/helm/helm
worker=fleet-crewfleet-trial-pod-0-worker
[ "$(id -u)" = 0 ] || fail "a Deployment is run as root" "run tests/helm-run.sh as root"
for program in podman runc catatonit slirp4netns; do
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

# image_of_build: the worker and the libraries that it is linked with.
image_of_build() {
    local file target
    for file in "$bin/crewfleet-worker" $(ldd "$bin/crewfleet-worker" | grep -o '/[^ ]*'); do
        if [ "$file" = "$bin/crewfleet-worker" ]; then target=/usr/local/bin/crewfleet-worker; else target=$file; fi
        install -D "$file" "$work/root$target"
    done
    printf 'FROM scratch\nCOPY . /\nENTRYPOINT ["/usr/local/bin/crewfleet-worker"]\n' | podman build --quiet --file - "$work/root"
}

say "an image and a node"
: >"$log"
if [ -n "${CREWFLEET_IMAGE:-}" ]; then image=$(podman pull --quiet "$CREWFLEET_IMAGE"); else image=$(image_of_build); fi
podman tag "$image" localhost/crewfleet-helm-run:test

exec {ready}< <(exec "$bin/node-owner" 2>>"$log")
node=$!
read -r -t 120 -u "$ready" folder || fail "the RabbitMQ node did not start" "read $log"
port=$(sed -n 's/.*started TCP listener on 127.0.0.1:\([0-9]*\).*/\1/p' "$folder/node.log")

# The Secret as this podman keeps those that pods mount. 10.0.2.2 is the loopback interface of this machine.
printf 'data: {broker-url: "amqp://guest:guest@10.0.2.2:%s/%%2f"}\n' "$port" | podman secret create crewfleet-broker - >>"$log"
"$helm" template fleet deploy/helm/crewfleet --values tests/helm/run-values.yaml --show-only templates/configmap.yaml \
    --show-only templates/deployment.yaml >"$work/play.yaml" 2>>"$log"
grace=$(awk '$1 == "terminationGracePeriodSeconds:" { print $2 }' "$work/play.yaml")

# await FD WORDS: reads lines until one has the words, for a minute.
await() {
    local line until=$((SECONDS + 60))
    while [ $SECONDS -lt $until ] && read -r -t 60 -u "$1" line; do
        if [[ $line == *"$2"* ]]; then return; fi
    done
    fail "nothing says $2" "read the worker's last lines: $(podman logs --tail 5 "$worker" 2>&1)"
}
# said WORDS: waits until the worker has logged them.
said() {
    local lines follower
    exec {lines}< <(exec podman logs --follow "$worker" 2>&1)
    follower=$!
    await "$lines" "$1"
    kill "$follower"
    wait "$follower" || true
    exec {lines}<&-
}
# expect WHAT WANTED GOT
expect() { [ "$3" = "$2" ] || fail "$1 is \"$3\", not \"$2\"" "compare the chart's deployment.yaml with podman inspect"; }
# kickoff CREW ARGUMENT...
kickoff() { "$bin/crewfleet" --broker-url "amqp://guest:guest@127.0.0.1:$port/%2f" kickoff --timeout 60 "$@"; }

# As Kubernetes' emptyDirs are: root's, and writable for the pod's fsGroup. Podman would give them to the worker.
for volume in data tmp; do
    podman volume create --opt o=uid=0,gid=65532 "$volume" >>"$log"
    chmod 2777 "$(podman volume inspect --format '{{.Mountpoint}}' "$volume")"
done

say "the Deployment"
quietly helm-play.log podman kube play --network slirp4netns:allow_host_loopback=true "$work/play.yaml"
said '"message":"ready"'
expect "who runs it" 65532:65532 "$(podman inspect --format '{{.Config.User}}' "$worker")"
expect "whether its root is read-only" true "$(podman inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$worker")"
expect "what it is capable of" "[]" "$(podman inspect --format '{{.EffectiveCaps}}' "$worker")"
expect "its memory" 536870912 "$(podman inspect --format '{{.HostConfig.Memory}}' "$worker")"
expect "the reply" '{"a":"b"}' "$(kickoff echo --input a=b 2>>"$log")"

say "SIGTERM while a kickoff runs"
exec {events}< <(kickoff sleep --inputs - --follow --json 2>&1 <<<'{"seconds": 5}')
await "$events" kickoff_started
podman stop --time "$grace" "$worker" >>"$log" 2>&1
expect "its exit code" 0 "$(podman inspect --format '{{.State.ExitCode}}' "$worker")"
reply=$(cat <&"$events")
[[ $reply == *'"status":"succeeded"'*'"attempt":1,'* ]] ||
    fail "the kickoff was not let finish: $reply" "read worker/src/lifecycle/drain.rs"
[[ $(podman logs "$worker" 2>&1) == *'"message":"worker ends"'* ]] ||
    fail "the worker did not end by itself" "read worker/src/lifecycle/drain.rs"
say "the rendered Deployment works"
