# shellcheck shell=bash
# A Docker daemon of the tests' own, and our images in it. Sourced after deploy/lib.sh, from the root of the checkout.
#
# No registry is asked: base images and those of other projects are made here (stand_ins). Images and build caches stay in
# .crewfleet/docker for the next run; the daemon, its containers, networks and volumes end with the script.

docker_data=$CREWFLEET_DIR/docker
docker_run=
docker_pids=()
export DOCKER_BUILDKIT=1

# need WHY PROGRAM PACKAGE...: installs the packages where there is no such program.
need() {
    local why=$1 program=$2
    shift 2
    command -v "$program" >/dev/null || apt_install "$why" "$@"
}

install_docker() {
    if command -v dockerd >/dev/null; then return; fi
    apt_install "the images" docker.io iptables
    # No system daemon starts with the next boot, either.
    # shellcheck disable=SC2016  # the inner shell expands it
    quietly disable.log sh -c '
        DPKG_MAINTSCRIPT_PACKAGE=docker.io deb-systemd-helper disable docker.service docker.socket &&
        DPKG_MAINTSCRIPT_PACKAGE=containerd deb-systemd-helper disable containerd.service && update-rc.d docker disable' ||
        fail "could not disable Docker's system service" "disable docker and containerd by hand, or they start with the next boot"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "not within its time: $what" "look at the logs in $CREWFLEET_DIR/log"
        sleep 0.2
    done
}

# start_docker outside|inside: in this machine's network, to build; or in one of its own, where nothing clashes with what else
# listens here, and where Docker may make bridges and packet filters as it likes. DOCKER_HOST is set to it.
start_docker() {
    local inside=() network=(--iptables=false --ip6tables=false --ip-forward=false --bridge=none) log=$CREWFLEET_DIR/log
    [ "$(id -u)" = 0 ] || fail "a Docker daemon needs root" "run this as root"
    install_docker
    mkdir -p "$docker_data/bin"
    # Debian's client builds by itself; another in /usr/local may want a plugin for that.
    if [ -x /usr/bin/docker ]; then
        ln -sf /usr/bin/docker "$docker_data/bin/"
        PATH=$docker_data/bin:$PATH
    fi
    exec 8>"$docker_data/lock"
    flock 8
    docker_run=$(mktemp -d)
    trap stop_docker EXIT
    if [ "$1" = inside ]; then
        # shellcheck disable=SC2016  # the inner shell expands it
        unshare --net sh -c 'ip link set lo up && touch "$1/network" && exec sleep infinity' sh "$docker_run" 8>&- &
        docker_pids+=($!)
        network_of=$!
        await 10 "a network of its own" test -e "$docker_run/network"
        inside=(nsenter --target "$network_of" --net)
        network=()
    fi
    "${inside[@]}" containerd --config /dev/null --root "$docker_data/containerd" --state "$docker_run/containerd" \
        --address "$docker_run/containerd.sock" >"$log/containerd.log" 2>&1 8>&- &
    docker_pids+=($!)
    await 60 "containerd is up" test -S "$docker_run/containerd.sock"
    # The system's daemon.json is not for this daemon.
    echo '{}' >"$docker_run/daemon.json"
    "${inside[@]}" dockerd --config-file "$docker_run/daemon.json" --data-root "$docker_data/docker" \
        --exec-root "$docker_run/docker" --pidfile "$docker_run/docker.pid" --host "unix://$docker_run/docker.sock" \
        --containerd "$docker_run/containerd.sock" --cgroup-parent /crewfleet-test --default-ulimit nofile=20000:20000 \
        "${network[@]}" >"$log/dockerd.log" 2>&1 8>&- &
    docker_pids+=($!)
    export DOCKER_HOST=unix://$docker_run/docker.sock
    await 60 "dockerd is up (log/dockerd.log)" docker version
}

stop_docker() {
    local i
    [ -n "$docker_run" ] || return 0
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
    docker volume ls --quiet | xargs --no-run-if-empty docker volume rm --force >/dev/null || true
    docker network prune --force >/dev/null || true
    # In reverse: the daemon before its containerd, both before their network.
    for ((i = ${#docker_pids[@]} - 1; i >= 0; i--)); do
        kill "${docker_pids[i]}" 2>/dev/null || true
        wait "${docker_pids[i]}" 2>/dev/null || true
    done
    docker_pids=()
    awk -v below="$docker_run/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort --reverse | xargs --no-run-if-empty umount
    find /sys/fs/cgroup -depth -type d -path '*/crewfleet-test*' -exec rmdir {} + 2>/dev/null || true
    rm -rf "$docker_run"
    docker_run=
    exec 8>&-
}

# The Debian archive that this machine's apt uses; none leaves it to mmdebstrap.
debian_mirror() {
    # shellcheck disable=SC2016  # apt-get expands it
    apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Label: Debian' 'Component: main' | head -n 1
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

base_image=crewfleet-test/debian:bookworm
rust_image=

# stand_in NAME TARGET CONTEXT: builds a target of stand-ins.Dockerfile where the image is missing.
stand_in() {
    local start=$SECONDS
    if has_image "$1"; then return; fi
    quietly stand-in.log docker build --network host --file tests/images/stand-ins.Dockerfile --target "$2" --tag "$1" \
        --build-arg "BASE_IMAGE=$base_image" "$3" || fail "could not make the image $1" "read the lines above; often the network"
    took "made the image $1" "$start"
}

# What stands in for images of a registry. Each is made once.
stand_ins() {
    local part thin=() mirror sysroot tree
    need "the images" mmdebstrap mmdebstrap debian-archive-keyring
    if ! has_image "$base_image"; then
        # As Debian's own slim image.
        for part in doc groff info linda lintian locale man; do thin+=("--dpkgopt=path-exclude=/usr/share/$part/*"); done
        mirror=$(debian_mirror)
        quietly debian.log mmdebstrap --variant=minbase "${thin[@]}" '--dpkgopt=path-include=/usr/share/doc/*/copyright' \
            --keyring=/usr/share/keyrings/debian-archive-keyring.gpg bookworm "$docker_run/debian.tar" ${mirror:+"$mirror"} ||
            fail "could not make a Debian image" "read the lines above; often the network"
        docker import "$docker_run/debian.tar" "$base_image" >/dev/null
        rm "$docker_run/debian.tar"
    fi
    sysroot=$(rustc --print sysroot)
    rust_image=crewfleet-test/rust:$(rustc --version | cut -d ' ' -f 2)
    stand_in "$rust_image" rust "$sysroot"
    stand_in crewfleet-test/prometheus prometheus tests/images
    stand_in crewfleet-test/alertmanager alertmanager tests/images
    if ! has_image crewfleet-test/rabbitmq; then
        tree=$(dirname "$(tests/rabbitmq-4.sh)")/root
        tar --create --directory "$tree" . | docker import --change 'USER rabbitmq' --change 'CMD ["rabbitmq-server"]' \
            --change 'ENV PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' \
            --change 'ENV RABBITMQ_LOGS=-' - crewfleet-test/rabbitmq >/dev/null
    fi
}

# The version that all images carry.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# Builds all targets, as `crewfleet/<target>:<version>`.
build_images() {
    local target start
    stand_ins
    for target in crewfleet worker-slim worker; do
        start=$SECONDS
        # `release` is built in half the time of `dist`.
        quietly "image-$target.log" docker build --network host --file deploy/docker/Dockerfile --target "$target" \
            --tag "crewfleet/$target:$version" --build-arg "BASE_IMAGE=$base_image" --build-arg "RUST_IMAGE=$rust_image" \
            --build-arg PROFILE=release --secret id=ca-bundle,src=/etc/ssl/certs/ca-certificates.crt . ||
            fail "could not build the image crewfleet/$target" "read the lines above"
        took "built the image crewfleet/$target" "$start"
    done
    # Those that lost their names to the new ones.
    quietly image-prune.log docker image prune --force
}
