#!/usr/bin/env bash
# Makes .crewfleet/rabbitmq-4: RabbitMQ 4.0 from Debian 13 (trixie), for private nodes on a system that has another one.
# Prints the folder of its programs, for CREWFLEET_RABBITMQ_BIN_DIR. Made once, in about 20 s; needs root, also to run.
#   CREWFLEET_RABBITMQ_BIN_DIR=$(tests/rabbitmq-4.sh) cargo test -p crewfleet-tests --test e2e node::
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

made=$(realpath "$CREWFLEET_DIR")/rabbitmq-4
root=$made/root
bin=$made/bin

[ "$(id -u)" = 0 ] || fail "RabbitMQ 4 needs root: its programs run in a mount namespace of their own" "run this as root"

# Two runs at once: the second waits for the first, and finds its work done.
exec 9>"$CREWFLEET_DIR/rabbitmq-4.lock"
flock 9

# The Debian archive that this machine's apt uses; none (no Debian, or no lists yet) leaves it to mmdebstrap.
mirror() {
    # shellcheck disable=SC2016  # apt-get expands it
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' 'Component: main' | head -n 1
}

make_root() {
    local start=$SECONDS mirror
    if ! command -v mmdebstrap >/dev/null || ! [ -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
        apt_install "RabbitMQ 4" mmdebstrap debian-archive-keyring
    fi
    mirror=$(mirror)
    say "unpacking RabbitMQ 4 from Debian 13 ..."
    # A folder is whole, or it is not there. Nothing starts in it: mmdebstrap's own policy-rc.d forbids it.
    rm -rf "$root" "$root.new"
    quietly rabbitmq-4.log mmdebstrap --variant=minbase --include=rabbitmq-server \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg trixie "$root.new" ${mirror:+"$mirror"} ||
        fail "could not unpack RabbitMQ 4" "read the lines above; often the network"
    grep -qw localhost "$root.new/etc/hosts" 2>/dev/null || echo "127.0.0.1 localhost" >>"$root.new/etc/hosts"
    mv "$root.new" "$root"
    took "unpacked RabbitMQ 4 from Debian 13" "$start"
}

# wrap NAME PROGRAM: a script that runs a program of the root on everything else of this system: its /usr and /etc take the
# place of ours in a mount namespace, so that folders, processes and the network are the same as outside.
wrap() {
    cat >"$bin/$1" <<WRAPPER
#!/bin/sh
# Made by tests/rabbitmq-4.sh.
exec unshare --mount sh -c 'mount --bind "$root/usr" /usr && mount --bind "$root/etc" /etc && exec "$2" "\$@"' sh "\$@"
WRAPPER
    chmod 755 "$bin/$1"
}

mkdir -p "$bin"
[ -d "$root" ] || make_root
for program in rabbitmq-server rabbitmqctl; do wrap "$program" "/usr/lib/rabbitmq/bin/$program"; done
for program in epmd erl_call; do wrap "$program" "/usr/bin/$program"; done
echo "$bin"
