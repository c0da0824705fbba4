# shellcheck shell=bash
# Programs out of Debian's packages, without installing them: unpacked into .crewfleet/tools. Sourced, after deploy/lib.sh.

tools=$CREWFLEET_DIR/tools

# download PACKAGE: into a folder of its own.
download() {
    rm -rf "$tools/$1.new"
    mkdir -p "$tools/$1.new"
    (cd "$tools/$1.new" && quietly "$1.log" apt-get download "$1")
}

# unpacked PACKAGE FILE: the path of a file of a Debian package, which is downloaded and unpacked where it is missing.
unpacked() {
    local path="$tools/$1/$2"
    if [ ! -e "$path" ]; then
        # Package lists that are old or missing are fetched, once.
        download "$1" || { quietly apt.log as_root apt-get update && download "$1"; } ||
            fail "could not download Debian's package $1" "read the lines above; often the network"
        dpkg-deb --extract "$tools/$1.new"/*.deb "$tools/$1.new"
        rm -rf "${tools:?}/$1" "$tools/$1.new"/*.deb
        mv "$tools/$1.new" "$tools/$1"
    fi
    printf '%s\n' "$path"
}

# The library that has the processes of a campaign believe in another hour.
make_faketime() {
    local library
    library=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")
    unpacked libfaketime "usr/lib/$library/faketime/libfaketimeMT.so.1" >/dev/null
}

# Prometheus and Alertmanager, for the tests.
make_prometheus() {
    local alertmanager
    unpacked prometheus usr/bin/prometheus >/dev/null
    alertmanager=$(unpacked prometheus-alertmanager usr/bin/prometheus-alertmanager)
    # Debian's looks for its templates in /usr/share, where an unpacked one has none. In as many letters: its working directory.
    LC_ALL=C sed -i 's|/usr/share/prometheus/alertmanager|./////////////////////////////////|g' "$alertmanager"
}
