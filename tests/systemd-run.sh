#!/usr/bin/env bash
# Runs the units of deploy/systemd for real: systemd as process 1 of a container, beside a private broker. Readiness, credentials,
# watchdog, a kickoff by AMQP and one by HTTP, a Python crew that stands in its project by an overlay and, with a drop-in, by links,
# and a stop that waits for a kickoff. Needs root, and the image of tests/images.sh --full, whose programs it takes.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source tests/images/docker.sh

# in_it COMMAND...: in the machine that systemd runs.
in_it() { docker exec machine "$@"; }
# written FILE: writes stdin to it.
written() { docker exec --interactive machine tee "$1" >/dev/null; }
crewfleet() { docker exec --env CREWFLEET__BROKER__URL=amqp://guest:guest@127.0.0.1:5672/%2f machine crewfleet "$@"; }
property() { in_it systemctl show --value --property "$1" "$2"; }
says() { [[ "$(property StatusText "$1")" == "$2"* ]]; }
is_up() { [[ "$(in_it systemctl is-system-running)" =~ ^(running|degraded)$ ]]; }
# holds WHAT COMMAND...
holds() { "${@:2}" || fail "does not hold: $1" "the end of the journal: $(in_it journalctl --no-pager --lines 30)"; }
equal() { [ "$1" = "$2" ] || { say "it is '$1', not '$2'" && return 1; }; }
# call PATH [CURL ARGUMENT...]: the gateway's API.
call() {
    nsenter --target "$(docker inspect --format '{{.State.Pid}}' broker)" --net \
        curl --silent --show-error --fail --max-time 5 --header "Authorization: Bearer $token" "${@:2}" "http://127.0.0.1:8080$1"
}

# The programs out of the images, the units, and what somebody who installs them writes.
install_units() {
    local image
    for image in worker-slim crewfleet; do
        docker create --name "of-$image" "crewfleet/$image:$version" >/dev/null
        docker cp "of-$image:/usr/local/bin/." "$docker_run/bin"
        docker rm "of-$image" >/dev/null
    done
    docker cp "$docker_run/bin/." machine:/usr/local/bin
    docker cp deploy/systemd/. machine:/etc/systemd/system
    in_it install -d /etc/crewfleet /etc/systemd/system/crewfleet-gateway.service.d
    # So that the test need not wait for 30 s.
    printf '[Service]\nWatchdogSec=10\n' | written /etc/systemd/system/crewfleet-gateway.service.d/soon.conf
    in_it sh -c 'umask 077 && echo "amqp://guest:guest@127.0.0.1:5672/%2f" >/etc/crewfleet/broker-url'
    written /etc/crewfleet/trial.toml <<'TOML'
[worker]
drain_grace_s = 600.0

[crews.echo]
runner = "builtin"
target = "echo"

[crews.sleep]
runner = "builtin"
target = "sleep"

[crews.shop]
runner = "python"
target = "shop:Shop"
path = ["/srv/shop"]
TOML
    in_it install -d /srv/shop/data
    echo "bread,3" | written /srv/shop/data/prices.csv
    echo "[project]" | written /srv/shop/pyproject.toml
    written /srv/shop/shop.py <<'PYTHON'
import subprocess


class Shop:
    def kickoff(self, inputs):
        with open("data/prices.csv") as prices, open("report.md", "w") as report:
            report.write(prices.read())
        own = ["unshare", "--user", "--map-root-user", "--mount"]
        codes = [subprocess.run([*own, *command], capture_output=True).returncode for command in (["true"], ["umount", "/home"])]
        return {"namespaces": codes[0] == 0, "sees_home": codes == [0, 0]}
PYTHON
    written /etc/crewfleet/gateway.toml <<'TOML'
[gateway]
tokens_file = "/etc/crewfleet/tokens.json"
default_crew = "echo"
TOML
}

start_docker outside
stand_ins
stand_in crewfleet-test/systemd systemd tests/images
stop_docker
start_docker inside

say "a machine with systemd"
need "asking the gateway" curl curl
docker run --detach --name broker --network none crewfleet-test/rabbitmq >/dev/null
# As --privileged, but for what this machine itself may not. What systemd mounts for a unit, credentials above all, reaches it
# through shared mounts, which a machine has and a container does not. Its root is an overlay, on which none can be: state
# directories lie in a volume, as on a disk.
docker run --detach --name machine --network container:broker --cap-add ALL --cap-drop SYS_RESOURCE --cgroupns host \
    --volume /sys/fs/cgroup:/sys/fs/cgroup --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --security-opt systempaths=unconfined --tmpfs /run --tmpfs /tmp --volume /var/lib/private crewfleet-test/systemd \
    sh -c 'mount --make-rshared / && exec /lib/systemd/systemd' >/dev/null
await 60 "systemd is up" is_up
await 120 "the broker is up" docker exec broker rabbitmq-diagnostics --quiet check_port_connectivity
mkdir "$docker_run/bin"
install_units

say "the units"
# Type=notify: it returns when the unit says that it is ready, so when it has read the broker's URL, a credential.
holds "the worker becomes ready" in_it systemctl start crewfleet-worker@trial
holds "the gateway becomes ready" in_it systemctl start crewfleet-gateway
await 30 "the worker says what it does" says crewfleet-worker@trial "ready; 0 kickoffs in flight"
await 30 "the gateway says what it does" says crewfleet-gateway "ready; "
for unit in crewfleet-worker@trial crewfleet-gateway; do
    process=$(property MainPID $unit)
    holds "$unit is nobody who was there before" sh -c "[ '$(in_it stat --format %u "/proc/$process")' -ge 61184 ]"
    holds "only root reads the broker's URL" equal "$(in_it stat --format '%a %U' /etc/crewfleet/broker-url)" "600 root"
done

say "kickoffs"
holds "a kickoff by AMQP" equal "$(crewfleet kickoff echo --timeout 30 --input a=b)" '{"a":"b"}'
token=$(crewfleet --config /etc/crewfleet/gateway.toml token create trial --all-crews)
await 30 "the gateway knows the token" call /inputs
id=$(call /kickoff --data '{"inputs": {"a": "b"}}')
id=${id#*:\"} id=${id%\"*}
status() { [[ "$(call "/status/$id")" == *'"state":"SUCCESS"'* ]]; }
await 30 "a kickoff by HTTP succeeds" status
holds "the gateway's store is in its state directory" in_it test -s /var/lib/crewfleet-gateway/store.sqlite
holds "nobody else reads it" equal "$(in_it stat --dereference --format %a /var/lib/crewfleet-gateway)" 700

say "a crew in its project"
# stands WAY NAMESPACES: a kickoff reads and writes in its project by WAY, and may make namespaces or not; never what the unit hides.
stands() {
    local said reply
    said=$(in_it journalctl --no-pager --output cat --unit crewfleet-worker@trial | grep '"crew":"shop"' | grep '"files":' | tail -n 1)
    [[ "$said" == *"\"files\":\"$1\""* ]] || fail "the way is not $1" "the worker says: $said"
    reply=$(crewfleet kickoff shop --json --timeout 60)
    [[ "$reply" == *'"status":"succeeded"'* && "$reply" == *"\"namespaces\":$2,\"sees_home\":false"* ]] ||
        fail "the crew does not succeed as it should" "its reply: $reply"
    [[ "$reply" == *'"path":"report.md"'*'"content":"bread,3\n"'* ]] || fail "the crew's file is not in the reply" "its reply: $reply"
    # shellcheck disable=SC2016  # the machine's shell expands it
    holds "the project is as it was" in_it sh -c '[ "$(ls /srv/shop | tr "\n" " ")" = "data pyproject.toml shop.py " ]'
}
stands overlay true
in_it install -d /etc/systemd/system/crewfleet-worker@trial.service.d
# What the unit's comment says, word for word.
sed -n '/^#   \[Service\]/,/^[^#]/s/^#   //p' deploy/systemd/crewfleet-worker@.service |
    written /etc/systemd/system/crewfleet-worker@trial.service.d/no-namespaces.conf
in_it systemctl daemon-reload
holds "the worker without namespaces becomes ready" in_it systemctl restart crewfleet-worker@trial
await 30 "the worker says what it does" says crewfleet-worker@trial "ready; 0 kickoffs in flight"
stands links false

say "the watchdog"
in_it sh -c "kill -STOP $(property MainPID crewfleet-gateway)"
was_restarted() { [ "$(property NRestarts crewfleet-gateway)" -ge 1 ] && says crewfleet-gateway "ready; "; }
await 60 "one that hangs is killed and started again" was_restarted

say "a stop while a kickoff runs"
crewfleet kickoff sleep --timeout 60 --json --input seconds:=5 >"$docker_run/reply" &
pending=$!
await 30 "it runs" says crewfleet-worker@trial "ready; 1 kickoffs in flight"
in_it systemctl stop crewfleet-worker@trial crewfleet-gateway
holds "the worker ended well" equal "$(property Result crewfleet-worker@trial)" success
holds "the gateway ended well" equal "$(property Result crewfleet-gateway)" success
wait "$pending" || fail "the kickoff of the stopped worker failed" "its reply: $(cat "$docker_run/reply")"
[[ "$(cat "$docker_run/reply")" == *'"attempt":1,'* ]] || fail "it was run twice" "its reply: $(cat "$docker_run/reply")"
say "the units work"
