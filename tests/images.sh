#!/usr/bin/env bash
# Checks the images.
#   tests/images.sh         lints the Dockerfiles
#   tests/images.sh --full  also builds all targets and runs them in a Docker daemon of its own, against a private broker; needs
#                           root, 8 GB of disk and some ten minutes the first time
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

say "Dockerfiles"
"$CREWFLEET_DIR/test-tools/bin/hadolint" deploy/docker/Dockerfile tests/images/stand-ins.Dockerfile
[ "${1:-}" = --full ] || exit 0

source tests/images/docker.sh

# holds WHAT COMMAND...: fails the test when the command does.
holds() {
    local what=$1
    shift
    "$@" || fail "does not hold: $what" "the command was: $*"
}
equal() { [ "$1" = "$2" ] || { say "it is '$1'" && return 1; }; }
exits() {
    local expected=$1 code=0
    shift
    "$@" >/dev/null 2>&1 || code=$?
    equal "$code" "$expected"
}

# confined OPTIONS... IMAGE...: as a cautious deployment runs it.
confined() { docker run --read-only --cap-drop ALL --security-opt no-new-privileges "$@"; }
# beside_broker OPTIONS... IMAGE...: in the broker's network, in which there is nothing else.
beside_broker() { confined --network container:broker "$@"; }
crewfleet() { beside_broker --rm "crewfleet/crewfleet:$version" "$@"; }
label() { docker image inspect --format "{{index .Config.Labels \"org.opencontainers.image.$1\"}}" "$2"; }

succeeded_with() { [[ "$2" == *'"status":"succeeded"'* && "$2" == *"$1"* ]]; }
is_ready() {
    docker exec worker python3 -c 'import urllib.request; urllib.request.urlopen("http://127.0.0.1:9464/readyz", timeout=5)'
}
is_healthy() { equal "$(docker inspect --format '{{.State.Health.Status}}' "$1")" healthy; }
has_no_zombie() { ! docker exec worker sh -c 'grep --quiet --no-messages "^State:.Z" /proc/[0-9]*/status'; }

check_metadata() {
    local target image
    for target in worker worker-slim crewfleet; do
        image=crewfleet/$target:$version
        holds "$image runs as user 65532" equal "$(docker image inspect --format '{{.Config.User}}' "$image")" 65532:65532
        holds "$image says its version" equal "$(label version "$image")" "$version"
        holds "$image says its licences" equal "$(label licenses "$image")" "MIT OR Apache-2.0"
        holds "$image is titled" equal "$(label title "$image")" "crewfleet/$target"
        holds "$image has that version in it" equal "$(confined --rm --network none "$image" --version)" \
            "crewfleet$([ "$target" = crewfleet ] || echo -worker) $version"
    done
}

# Nothing that only a build needs.
check_contents() {
    local image=crewfleet/worker:$version
    holds "the worker's image has no compiler and no pip" confined --rm --network none --entrypoint sh "$image" -c \
        '! command -v cc && ! python3 -c "import pip" 2>/dev/null'
    # shellcheck disable=SC2016  # the container's shell expands it
    holds "the user can write to /tmp alone" confined --rm --network none --tmpfs /tmp --entrypoint sh "$image" -c \
        '[ "$(id -u):$(id -g)" = 65532:65532 ] && touch /tmp/new && ! touch /new 2>/dev/null'
    holds "the worker's python3 is that with CrewAI" confined --rm --network none --entrypoint python3 "$image" -c \
        'import importlib.metadata as m; m.version("crewai")'
}

check_worker() {
    local reply mounts=(--volume "$PWD/tests/images/worker.toml:/etc/crewfleet/crewfleet.toml:ro"
        --volume "$PWD/deploy/examples/marketing:/opt/crewfleet/crews/marketing:ro")
    holds "a health check without a configuration exits 2" exits 2 confined --rm --network none "crewfleet/worker:$version" \
        --config /etc/crewfleet/crewfleet.toml healthcheck
    holds "a health check of a worker that does not run exits 1" exits 1 confined --rm --network none "${mounts[@]}" \
        "crewfleet/worker:$version" --config /etc/crewfleet/crewfleet.toml healthcheck

    beside_broker --detach --name worker --tmpfs /tmp --tmpfs /var/lib/crewfleet:mode=0700,uid=65532,gid=65532 \
        "${mounts[@]}" "crewfleet/worker:$version" >/dev/null
    await 120 "the worker is ready" is_ready
    await 60 "Docker finds the worker healthy" is_healthy worker
    reply=$(crewfleet kickoff marketing --json --timeout 120 --input BUSINESS_DETAILS="a bakery" \
        --input PRODUCT_DESCRIPTION="rye bread")
    holds "the example crew succeeds" succeeded_with "rye bread" "$reply"
    reply=$(crewfleet kickoff leaver --json --timeout 60)
    holds "a crew that leaves a process behind succeeds" succeeded_with '"json":1' "$reply"
    await 20 "what a crew left behind is killed and reaped" has_no_zombie

    docker stop --time 60 worker >/dev/null
    holds "a worker that was stopped exits 0" equal "$(docker inspect --format '{{.State.ExitCode}}' worker)" 0
}

# stands NAME WAY REASON OPTION...: a worker with these options says which way its kickoffs see their project, and why; one of them
# writes a file there that comes back, and the project is as it was.
stands() {
    local name=$1 way=$2 reason=$3 said reply
    beside_broker --detach --name "$name" --tmpfs /tmp "${@:4}" \
        --volume "$PWD/tests/images/worker-shop.toml:/etc/crewfleet/crewfleet.toml:ro" crewfleet-test/shop >/dev/null
    await 60 "the shop's worker is ready" ready_says "$name"
    said=$(docker logs "$name" 2>&1 | grep '"crew":"shop"' | grep '"files":')
    [[ "$said" == *"\"files\":\"$way\""* && "$said" == *"$reason"* ]] || fail "$name does not say $way, $reason" "it says: $said"
    reply=$(crewfleet kickoff shop --json --timeout 60)
    holds "the crew reads its project by $way" succeeded_with '"json":{"bread":3}' "$reply"
    holds "what it wrote comes back" succeeded_with '"path":"output/report.md"' "$reply"
    docker rm --force "$name" >/dev/null
}
ready_says() { docker logs "$1" 2>&1 | grep --quiet '"message":"ready"'; }

# Both ways to see a project that is in the image and belongs to root.
check_ways() {
    local profile=/usr/share/containers/seccomp.json docker_like=$docker_run/docker.json crewfleet=$docker_run/crewfleet.json
    docker build --quiet --build-arg "WORKER=crewfleet/worker:$version" --tag crewfleet-test/shop --file - tests/images/shop <<'FILE' >/dev/null
ARG WORKER
FROM ${WORKER}
COPY . /srv/shop
FILE
    stands links links "allow no user namespaces" --volume /var/lib/crewfleet
    # Podman's profile is Docker's, but that it allows these calls to all.
    need "a seccomp profile" jq jq
    [ -e "$profile" ] || apt_install "a seccomp profile" golang-github-containers-common
    jq '.syscalls |= map(if (.args // []) == [] then .names -= ["unshare", "mount", "umount", "umount2", "setns"] else . end)' \
        "$profile" >"$docker_like"
    stands docker-like links "allow no user namespaces" --volume /var/lib/crewfleet --security-opt "seccomp=$docker_like"
    jq --from-file deploy/docker/seccomp.jq "$docker_like" >"$crewfleet"
    stands profile overlay "kickoffs run in their project's folder" --volume /var/lib/crewfleet --security-opt "seccomp=$crewfleet"
    holds "that profile lets nobody make other namespaces" exits 1 confined --rm --network none --security-opt "seccomp=$crewfleet" \
        --entrypoint unshare "crewfleet/worker:$version" --user --net true
    stands no-volume links "lies on an overlay itself" --read-only=false --security-opt "seccomp=$crewfleet"
    stands inside links "is mounted inside the project" --volume /var/lib/crewfleet --security-opt "seccomp=$crewfleet" --volume /srv/shop/output
}

check_worker_slim() {
    local reply
    # A new volume belongs to whom the folder in the image belongs.
    beside_broker --detach --name worker-slim --env OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 --volume slim-data:/var/lib/crewfleet \
        --volume "$PWD/tests/images/worker-slim.toml:/etc/crewfleet/crewfleet.toml:ro" "crewfleet/worker-slim:$version" >/dev/null
    await 60 "Docker finds the slim worker healthy" is_healthy worker-slim
    holds "the shipped worker has traces" grep --quiet "traces are sent" <<<"$(docker logs worker-slim 2>&1)"
    await 60 "the slim worker answers" crewfleet kickoff echo --timeout 30
    reply=$(crewfleet kickoff echo --json --timeout 30 --input TOPIC=lamps)
    holds "the echo crew succeeds" succeeded_with lamps "$reply"
    docker stop --time 60 worker-slim >/dev/null
    holds "a slim worker that was stopped exits 0" equal "$(docker inspect --format '{{.State.ExitCode}}' worker-slim)" 0
}

start_docker outside
build_images
stop_docker
start_docker inside
say "what the images are"
check_metadata
check_contents
say "what they do"
docker run --detach --name broker --network none crewfleet-test/rabbitmq >/dev/null
await 120 "the broker is up" docker exec broker rabbitmq-diagnostics --quiet check_port_connectivity
check_worker
check_worker_slim
say "where kickoffs stand"
check_ways
for target in worker worker-slim crewfleet; do
    size=$(docker image inspect --format '{{.Size}}' "crewfleet/$target:$version")
    say "crewfleet/$target: $((size / 1000000)) MB"
done
