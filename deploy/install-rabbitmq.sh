#!/usr/bin/env bash
# Installs RabbitMQ's programs from Debian where they are missing, for private nodes of crewfleet's own. No system broker
# is started, and one that is there already is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

programs=${CREWFLEET_RABBITMQ_BIN_DIR:-/usr/lib/rabbitmq/bin}
[ ! -e "$programs/rabbitmq-server" ] || exit 0
[ -z "${CREWFLEET_RABBITMQ_BIN_DIR:-}" ] ||
    fail "CREWFLEET_RABBITMQ_BIN_DIR is $programs, but no rabbitmq-server is there" "correct it, or unset it to use Debian's RabbitMQ"

# What is enabled now stays enabled; only what the installation enables is switched off again below.
services=(rabbitmq-server.service epmd.service epmd.socket)
new=()
for service in "${services[@]}"; do
    [ -e "/lib/systemd/system/$service" ] || new+=("$service")
done

apt_install "the private broker" rabbitmq-server

# The packages enable their services for the next boot, in systemd's way and in the older one. Debian's helper works
# without a running systemd too; it wants to know for which package.
disable='DPKG_MAINTSCRIPT_PACKAGE=rabbitmq-server deb-systemd-helper disable "$@" && update-rc.d rabbitmq-server disable'
if [ ${#new[@]} -gt 0 ]; then
    quietly disable.log as_root sh -c "$disable" sh "${new[@]}" ||
        fail "could not disable ${new[*]}" "disable them by hand, or a system broker starts with the next boot"
fi
say "RabbitMQ's own system service is neither started nor enabled ('systemctl enable --now rabbitmq-server' would do that)"
