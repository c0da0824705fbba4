#!/usr/bin/env bash
# Builds the crewfleet-worker of an earlier version, for the tests of fleets whose workers differ, and prints its path below
# .crewfleet/old-worker; nothing where the clone has no earlier commit. It is built once for each commit, with the dependencies
# that the build of this version has compiled.
# The version is the last release (a tag v...); before the first one, what was 20 commits ago.
#   tests/old-worker.sh
#   CREWFLEET_OLD_COMMIT=741790b tests/old-worker.sh    that one
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh

back=20

# The commit, or nothing.
commit() {
    local wanted=${CREWFLEET_OLD_COMMIT:-}
    if [ -n "$wanted" ]; then
        git rev-parse --verify --quiet "$wanted^{commit}" ||
            fail "CREWFLEET_OLD_COMMIT: there is no commit $wanted" "fetch it, or name another"
        return
    fi
    wanted=$(git describe --tags --match 'v*' --abbrev=0 HEAD^ 2>/dev/null) || wanted=HEAD~$back
    # A clone may be shallow, or young.
    git rev-parse --verify --quiet "$wanted^{commit}" || git rev-parse --verify --quiet 'HEAD~1^{commit}' || true
}

old=$(commit)
if [ -z "$old" ]; then
    say "there is no earlier commit in this clone, so no old worker; fetch the whole history to have one"
    exit 0
fi
folder=$CREWFLEET_DIR/old-worker/$old
# Two runs at once: the second waits for the first, and finds its work done.
exec 9>"$CREWFLEET_DIR/old-worker.lock"
flock 9
if [ ! -x "$folder/crewfleet-worker" ]; then
    start=$SECONDS
    # One place for all commits: the workspace's crates are compiled over those of the last one.
    work=$CREWFLEET_DIR/old-worker/work
    rm -rf "$work"
    mkdir -p "$work/source"
    git archive "$old" | tar --extract --directory "$work/source"
    # What it is linked of, but for the workspace's own crates, is what the other build has made, in that one's profile; how much
    # debug information there is may be the environment's matter, which a file would outrank. A cargo that does not know the
    # folder of intermediate files makes all of it anew.
    awk '/^\[/ { of_profile = /^\[profile\./ } of_profile && !/^debug = /' Cargo.toml >"$work/profile.toml"
    quietly old-worker.log env CARGO_TARGET_DIR="$work/target" CARGO_BUILD_BUILD_DIR="${CARGO_TARGET_DIR:-$PWD/target}" \
        env -u RUSTC_WORKSPACE_WRAPPER cargo build --locked --config "$work/profile.toml" --manifest-path "$work/source/Cargo.toml" --workspace --bin crewfleet-worker ||
        fail "the worker of $old does not build" "name another commit: CREWFLEET_OLD_COMMIT"
    mkdir -p "$folder"
    mv "$work/target/debug/crewfleet-worker" "$folder/crewfleet-worker"
    rm -rf "$work"
    took "built the worker of $(git log -1 --format='%h (%cs)' "$old")" "$start"
fi
printf '%s\n' "$folder/crewfleet-worker"
