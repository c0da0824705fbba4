#!/usr/bin/env bash
# Checks deploy/compose.yaml.
#   tests/compose.sh         validates it and what it mounts; Docker Compose is unpacked where it is missing
#   tests/compose.sh --full  also runs it in a Docker daemon and a network of its own, with images that it builds, and drains a
#                            worker; needs root, 8 GB of disk and some ten minutes the first time
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/images/docker.sh
source tests/tools.sh

unpacked=$CREWFLEET_DIR/tools/docker-compose/usr/libexec/docker/cli-plugins/docker-compose

find_compose() {
    if [ -x "$unpacked" ]; then
        compose=("$unpacked")
    elif docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    else
        return 1
    fi
    compose+=(--file deploy/compose.yaml)
}

# Debian 12 has no Compose that reads today's files; Debian 13 has.
unpack_compose() {
    local folder=$CREWFLEET_DIR/tools/docker-compose mirror
    mirror=$(debian_mirror)
    need "Docker Compose" mmdebstrap mmdebstrap debian-archive-keyring
    rm -rf "$folder" "$folder.new"
    quietly docker-compose.log mmdebstrap --variant=extract --include=docker-compose \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg trixie "$folder.new" ${mirror:+"$mirror"} ||
        fail "could not unpack Docker Compose" "read the lines above; often the network"
    mkdir -p "$folder/usr/libexec/docker"
    mv "$folder.new/usr/libexec/docker/cli-plugins" "$folder/usr/libexec/docker/"
    rm -rf "$folder.new"
}

number() { sed -n "s/^ *$1[ =:]*\([0-9]*\).*/\1/p" "$2"; }

# What Prometheus and the worker say of their files.
validate_mounted() {
    local folder code=0
    folder=$(mktemp -d)
    cp deploy/compose/prometheus.yml deploy/monitoring/rules.yaml "$folder"
    quietly compose-promtool.log "$(unpacked prometheus usr/bin/promtool)" check config "$folder/prometheus.yml"
    echo 'amqp://127.0.0.1:1/%2f' >"$folder/url"
    # The container's folder of the crew is this one here.
    sed "s|/opt/crewfleet/crews/marketing|$PWD/deploy/examples/marketing|" deploy/compose/crewfleet.toml >"$folder/crewfleet.toml"
    # 1: no worker answers, as none runs. 2: the configuration is refused.
    CREWFLEET__BROKER__URL_FILE=$folder/url CREWFLEET__WORKER__ADMIN_ADDR=127.0.0.1:1 \
        "${CARGO_TARGET_DIR:-target}/debug/crewfleet-worker" --config "$folder/crewfleet.toml" healthcheck 2>"$folder/said" || code=$?
    [ "$code" = 1 ] || fail "the worker refuses deploy/compose/crewfleet.toml: $(cat "$folder/said")" "correct it"
    code=0
    CREWFLEET__BROKER__URL_FILE=$folder/url CREWFLEET__GATEWAY__ADMIN_ADDR=127.0.0.1:1 \
        "${CARGO_TARGET_DIR:-target}/debug/crewfleet" --config "$folder/crewfleet.toml" healthcheck --gateway 2>"$folder/said" || code=$?
    [ "$code" = 1 ] || fail "the gateway refuses deploy/compose/crewfleet.toml: $(cat "$folder/said")" "correct it"
    code=0
    printf 'whsec_%s\n' "$(head -c 32 /dev/urandom | base64 -w 0)" >"$folder/webhook-secret"
    CREWFLEET__BROKER__URL_FILE=$folder/url CREWFLEET__WEBHOOKS__SECRET_FILE=$folder/webhook-secret \
        CREWFLEET__WEBHOOKS__ADMIN_ADDR=127.0.0.1:1 \
        "${CARGO_TARGET_DIR:-target}/debug/crewfleet" --config "$folder/crewfleet.toml" healthcheck --sinks 2>"$folder/said" || code=$?
    [ "$code" = 1 ] || fail "the sinks refuse deploy/compose/crewfleet.toml: $(cat "$folder/said")" "correct it"
    rm -rf "$folder"
}

# What the gateway writes lies on its volume, and what it may take of memory leaves room for callers, its tmpfs and itself.
validate_gateway() {
    local config=deploy/compose/crewfleet.toml gateway folder file files limit
    gateway=$("${compose[@]}" config --format json | jq .services.gateway)
    folder=$(jq --raw-output '.volumes[] | select(.type == "volume" and (.read_only | not)) | .target' <<<"$gateway")
    mapfile -t files < <(sed -n 's/^\(tokens_file\|file\) = "\([^"]*\)".*/\2/p' "$config")
    [ ${#files[@]} = 2 ] || fail "the gateway has ${#files[@]} files" "name its tokens_file and its store's file in $config"
    for file in "${files[@]}"; do
        [ "$(dirname "$file")" = "$folder" ] || fail "the gateway's $file is not on its volume, $folder" "name it there in $config"
    done
    limit=$(sed -n 's/^memory_limit = "\([0-9]*\)MiB".*/\1/p' "$config" | tail -n 1)
    [ $(((limit + 64 + 192) * 1024 * 1024)) -le "$(jq --raw-output .mem_limit <<<"$gateway")" ] ||
        fail "the gateway's mem_limit leaves too little beside its memory_limit of $limit MiB" "raise mem_limit in deploy/compose.yaml"
}

validate() {
    local granted promised
    say "compose.yaml"
    "${compose[@]}" config --quiet
    "${compose[@]}" --profile command config --quiet
    granted=$(number stop_grace_period deploy/compose.yaml | sort -n | tail -n 1)
    promised=$(number termination_grace_s deploy/compose/crewfleet.toml)
    [ "$granted" = "$promised" ] ||
        fail "a worker's stop_grace_period is $granted s, but its termination_grace_s $promised" "make them equal"
    validate_gateway
    validate_mounted
}

if ! find_compose; then
    unpack_compose
    find_compose
fi
validate
[ "${1:-}" = --full ] || exit 0

marketing=(kickoff marketing --json --timeout 120 --input BUSINESS_DETAILS="a bakery" --input PRODUCT_DESCRIPTION="rye bread")
crewfleet() { "${compose[@]}" --progress quiet run --rm --no-TTY crewfleet "$@"; }
succeeded() {
    [[ "$1" == *'"status":"succeeded"'* && "$1" == *"rye bread"* ]] || fail "the kickoff did not succeed" "its reply: $1"
}
inspect() { docker inspect --format "$1" "$2"; }

# get URL: as somebody on the machine that runs the fleet, through the published ports.
get() { nsenter --target "$network_of" --net curl --silent --show-error --fail --max-time 5 "$@"; }
# is QUERY NUMBER: whether Prometheus says that.
is() { [[ "$(get --get --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query)" == *"\"value\":["*",\"$2\"]"* ]]; }
# says URL TEXT
says() { [[ "$(get "$1")" == *"$2"* ]]; }

# in_flight CONTAINER: how many kickoffs it runs.
in_flight() {
    docker exec "$1" python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:9464/metrics").read().decode())' |
        sed -n 's/^crewfleet_kickoffs_in_flight{crew="marketing"} //p'
}
one_has_it() {
    for owner in "${workers[@]}"; do
        if [ "$(in_flight "$owner")" = 1 ]; then return; fi
    done
    return 1
}

check_monitoring() {
    await 120 "Prometheus sees two workers that are ready" \
        is 'count(up{job="crewfleet"} == 1 and crewfleet_worker_ready == 1)' 2
    # By way of RabbitMQ's own metrics and of our recording rules.
    await 120 "Prometheus knows from RabbitMQ that two consume" \
        is 'sum(crewfleet:requests_consumers{crew="marketing"})' 2
    says http://127.0.0.1:9090/api/v1/rules CrewfleetNoConsumer || fail "Prometheus has not loaded our rules" "look at its log"
    ! says http://127.0.0.1:9090/api/v1/rules '"health":"err"' || fail "a rule fails in Prometheus" "look at /api/v1/rules"
    await 60 "Prometheus knows the Alertmanager" says http://127.0.0.1:9090/api/v1/alertmanagers alertmanager:9093
    says http://127.0.0.1:9093/api/v2/status '"config"' || fail "Alertmanager does not answer" "look at its log"
}

# What is promised in compose.yaml of every service of ours.
check_confinement() {
    local worker url how
    for worker in "${workers[@]}"; do
        how=$(inspect '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}' "$worker")
        [ "$how" = "true [ALL] 65532:65532" ] || fail "a worker is not confined: $how" "compare deploy/compose.yaml"
        url=$(docker exec "$worker" cat /run/secrets/crewfleet/broker-url)
        [[ "$url" == amqp://crewfleet:*@rabbitmq:* ]] ||
            fail "the broker's URL is not where it should be" "look at the service broker-user"
        url=${url#*crewfleet:}
        [[ "$(docker inspect "$worker" && docker logs "$worker" 2>&1)" != *"${url%@*}"* ]] ||
            fail "the password can be seen from outside" "find it in docker inspect or docker logs"
    done
}

# ask TOKEN PATH [CURL ARGUMENT...]: the gateway, for the example crew.
ask() { get --header "Authorization: Bearer $1" "${@:3}" "http://127.0.0.1:8080/crews/marketing$2"; }
has_state() { [[ "$(ask "$1" "/status/$2")" == *"\"state\":\"$3\""* ]]; }

# As a client of a hosted crew calls it.
check_gateway() {
    local token id
    [ "$(get http://127.0.0.1:8080/)" = Healthy ] || fail "the gateway does not answer" "look at its log"
    token=$(crewfleet token create compose --all-crews)
    await 10 "the gateway knows the new token" ask "$token" /inputs
    [[ "$(ask "$token" /inputs)" == *BUSINESS_DETAILS* ]] || fail "the gateway does not know the crew's inputs" "look at its log"
    id=$(ask "$token" /kickoff --data '{"inputs": {"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "rye bread"}}')
    id=${id#*\"kickoff_id\":\"} id=${id%\"*}
    await 60 "the kickoff by HTTP succeeds" has_state "$token" "$id" SUCCESS
    # By its store.
    quietly compose-restart.log "${compose[@]}" restart gateway
    await 60 "the gateway knows it after a restart" has_state "$token" "$id" SUCCESS
    await 60 "Prometheus sees that the gateway is ready" is 'crewfleet_gateway_ready{job="crewfleet-gateway"}' 1
}

# A worker is told to end while it runs a kickoff: it finishes that, and nothing else.
check_drain() {
    local reply=$docker_run/reply pending owner=
    crewfleet "${marketing[@]}" >"$reply" 2>"$CREWFLEET_DIR/log/compose-kickoff.log" &
    pending=$!
    await 60 "a worker runs the kickoff" one_has_it
    [ "$(inspect '{{.Config.StopTimeout}}' "$owner")" = "$(number termination_grace_s deploy/compose/crewfleet.toml)" ] ||
        fail "Docker does not grant what the worker was told" "compare stop_grace_period"
    docker stop "$owner" >/dev/null
    [ "$(inspect '{{.State.ExitCode}}' "$owner")" = 0 ] ||
        fail "the drained worker did not exit 0" "the end of its log: $(docker logs --tail 20 "$owner" 2>&1)"
    wait "$pending" || fail "the kickoff of the drained worker failed" "read $CREWFLEET_DIR/log/compose-kickoff.log"
    succeeded "$(cat "$reply")"
    # A worker's name begins with its host's, which is the beginning of the container's id.
    [[ "$(cat "$reply")" == *'"attempt":1,'*"\"worker\":\"${owner:0:12}"* ]] ||
        fail "another worker finished the kickoff" "the reply: $(cat "$reply")"
    succeeded "$(crewfleet "${marketing[@]}")"
}

need "asking Prometheus" curl curl
find_compose || { install_docker && unpack_compose && find_compose && validate; }
export CREWFLEET_WORKER_IMAGE=crewfleet/worker:$version CREWFLEET_IMAGE=crewfleet/crewfleet:$version
export RABBITMQ_IMAGE=crewfleet-test/rabbitmq
export PROMETHEUS_IMAGE=crewfleet-test/prometheus ALERTMANAGER_IMAGE=crewfleet-test/alertmanager
# Long enough to be met in flight.
export OFFLINE_LLM_LATENCY_S=5
start_docker outside
build_images
stop_docker
start_docker inside

say "up"
quietly compose-up.log "${compose[@]}" up --detach || fail "the fleet did not come up" "read the lines above"
mapfile -t workers < <("${compose[@]}" ps --quiet --no-trunc worker)
[ ${#workers[@]} = 2 ] || fail "there are ${#workers[@]} workers" "compare deploy/compose.yaml"
check_monitoring
check_confinement
say "a kickoff"
quietly compose-doctor.log crewfleet doctor || fail "crewfleet doctor finds something unsafe" "read the lines above"
succeeded "$(crewfleet "${marketing[@]}")"
say "a kickoff by HTTP"
check_gateway
say "a worker drains"
check_drain
say "down"
quietly compose-down.log "${compose[@]}" --profile command down --volumes
left=$(docker ps --all --quiet && docker volume ls --quiet)
[ -z "$left" ] || fail "'down' has left $left" "compare deploy/compose.yaml"
