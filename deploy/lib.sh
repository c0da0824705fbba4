# shellcheck shell=bash
# What the scripts of this folder and tests/run.sh share. Sourced, from the root of the checkout.

# Everything that is made here, but for installed packages, goes into this ignored folder.
export CREWFLEET_DIR="$PWD/.crewfleet"
mkdir -p "$CREWFLEET_DIR/log"

# Progress goes to stderr: stdout belongs to the result.
say() { printf 'crewfleet: %s\n' "$*" >&2; }

# fail WHAT FIX: ends the script.
fail() {
    say "$1"
    say "what to do: $2"
    exit 1
}

# took WHAT SECONDS-AT-THE-START: the one line that a step leaves.
took() { say "$1 ($((SECONDS - $2)) s)"; }

# quietly LOG COMMAND...: its output goes to .crewfleet/log/LOG, and to the terminal only when it fails.
quietly() {
    local log="$CREWFLEET_DIR/log/$1"
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        say "failed: $*  (all of its output is in $log)"
        return 1
    fi
}

# is_made FOLDER LOCK: whether the folder was made from this lock file.
is_made() { [ "$(cat "$1/made-from-lock" 2>/dev/null)" = "$(sha256sum <"$2")" ]; }
mark_made() { sha256sum <"$2" >"$1/made-from-lock"; }

# python_packages PYTHON LOCK [ARGUMENT...]: installs what a lock file names, by its hashes. uv does it, which the first use installs
# by pip: it needs a tenth of pip's time.
python_packages() {
    local python=$1 lock=$2 uv=$CREWFLEET_DIR/uv uv_lock=deploy/python/uv.lock index
    shift 2
    if ! is_made "$uv" "$uv_lock"; then
        rm -rf "$uv"
        quietly uv.log "$python" -m pip install --disable-pip-version-check --no-cache-dir --require-hashes --no-deps --only-binary :all: \
            --target "$uv" --requirement "$uv_lock" || fail "pip could not install $uv_lock" "read the lines above; often the network"
        mark_made "$uv" "$uv_lock"
    fi
    # The package index that pip is told of: uv does not read pip's configuration.
    index=$("$python" -m pip config list | sed -n "s/^[^=]*\.index-url='\(.*\)'$/\1/p" | tail -n 1)
    quietly "${lock//\//-}.log" env UV_CACHE_DIR="$CREWFLEET_DIR/cache/uv" ${index:+UV_DEFAULT_INDEX="$index"} \
        "$uv/bin/uv" pip install --python "$python" --require-hashes --no-deps --only-binary :all: --requirement "$lock" "$@" ||
        fail "uv could not install $lock" "read the lines above; often the network, or a full disk (2 GB are needed)"
    rm -rf "$CREWFLEET_DIR/cache/uv"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*" "run this script as root, or install what it names by hand"
    fi
}

# apt_install WHY PACKAGE...: installs Debian packages, with a policy for the time being that lets no service start or stop.
apt_install() {
    local why=$1 start=$SECONDS
    shift
    command -v apt-get >/dev/null ||
        fail "$why needs $*, and there is no apt-get to install it" "install it with this system's package manager, then run this again"
    say "installing $* for $why ..."
    # Asks for the password now, where it can be seen.
    as_root true
    quietly apt.log as_root bash "$PWD/deploy/apt-install.sh" "$@" ||
        fail "could not install $*" "read the lines above; often the network or the package lists: apt-get update must work"
    took "installed $* for $why" "$start"
}
