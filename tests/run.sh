#!/usr/bin/env bash
# Runs every check and test of the project, after installing what they need. Needs Rust, and root or sudo where something
# has to be installed. Ends with a summary; the exit status is 0 only when everything passed.
#   tests/run.sh              everything
#   tests/run.sh e2e python   only these (see below for their names)
#   tests/run.sh --rabbitmq 4 [CHECK...]   against RabbitMQ 4.0 from Debian 13; by default the checks that run a broker
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source deploy/build-tools.sh

scripts=(deploy/*.sh tests/*.sh tests/*/*.sh .ci/run)
python=${CREWFLEET_PYTHON:-$CREWFLEET_DIR/python/bin/python}

# The names of the checks, in their order: what fails fast comes first. All Rust is built as one workspace in one
# profile, so that one build serves every check.
all=(format scripts supply build deploy lint unit doc python e2e bench campaign quickstart)
# Run by name only.
others=(home versions)
with_broker=(build e2e campaign)
format() { cargo fmt --all --check; }
scripts() { shellcheck -x "${scripts[@]}" && shellcheck -s sh shared/src/node/supervise.sh; }
supply() { tests/supply-chain.sh; }
deploy() { tests/deploy.sh; }
build() { cargo build --locked --workspace --all-targets; }
lint() {
    cargo clippy --locked --workspace --all-targets -- -D warnings &&
        cargo clippy --locked -p crewfleet-producer --no-default-features --lib -- -D warnings
}
unit() { cargo test --locked --workspace --no-fail-fast --lib --bins --examples; }
# A map of a module may link to what is private in it: it is for readers of the source.
doc() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps && cargo test --locked --workspace --doc; }
python() {
    (cd worker/python && "$python" -W error::ResourceWarning -m unittest discover -s tests) &&
        (cd tests/openai && "$python" -W error::ResourceWarning -m unittest discover -s tests -t .) &&
        (cd tests/as_at_home && "$python" -m unittest discover -s tests -t .)
}
# What CrewAI's templates, the shapes and, where CREWFLEET_EXAMPLES names them, its public projects give here and in plain Python.
home() {
    local interpreter=$python
    if [ -n "${CREWFLEET_EXAMPLES:-}" ]; then interpreter=$(tests/as_at_home/python-env.sh) || return 1; fi
    "$interpreter" tests/as_at_home/check.py
}
# The crew host's tests with older CrewAIs and other Pythons; an hour, and 8 GB.
versions() { tests/versions.sh; }
# These tests wait more than they work, so more run at once than there are cores.
e2e() { RUST_TEST_THREADS=6 cargo test --locked --workspace --no-fail-fast --test '*'; }

# That the benchmark runs. Its figures are worth something in release, on a machine that does nothing else.
bench() { CREWFLEET_BENCH_PROFILE=dev tests/bench.sh for-each --pairs 1 --json target/bench-check.json; }

# A short campaign: each kind of fault once. The seed makes it the same one each time.
campaign() { cargo run --quiet --locked -p crewfleet-tests --bin campaign -- --kickoffs 600 --seed 7 --faults all --patience-s 120; }

# The two commands that the README begins with, as a newcomer runs them.
quickstart() {
    local work reply
    work=$(mktemp -d)
    mkdir -p "$work/src/pkg"
    cp tests/crews/own_crew.py "$work/src/pkg/crew.py"
    reply=$(deploy/quickstart.sh --once | tail -n 1) || return 1
    [[ "$reply" == *'"status":"succeeded"'* ]] || return 1
    reply=$(cd "$work" && "$OLDPWD/deploy/quickstart.sh" --target pkg.crew:MyCrew --path src --input TOPIC=lamps --once | tail -n 1) || return 1
    rm -rf "$work"
    [[ "$reply" == *'"status":"succeeded"'* && "$reply" == *lamps* ]]
}

prepare() {
    command -v shellcheck >/dev/null || apt_install "checking the scripts" shellcheck
    command -v curl >/dev/null || apt_install "running the README's command" curl
    deploy/install-rabbitmq.sh
    if [ -z "${CREWFLEET_PYTHON:-}" ]; then deploy/python-env.sh; fi
    tests/test-env.sh
}

main() {
    local check began=$SECONDS start failed=() summary=()
    if [ "${1:-}" = --rabbitmq ]; then
        [ "${2:-}" = 4 ] || fail "--rabbitmq ${2:-} is not known" "say --rabbitmq 4, or leave it out for Debian's own RabbitMQ"
        shift 2
        [ $# -gt 0 ] || set -- "${with_broker[@]}"
        CREWFLEET_RABBITMQ_BIN_DIR=$(tests/rabbitmq-4.sh)
        export CREWFLEET_RABBITMQ_BIN_DIR
    fi
    [ $# -gt 0 ] || set -- "${all[@]}"
    for check in "$@"; do
        [[ " ${all[*]} ${others[*]} " == *" $check "* ]] || fail "there is no check named $check" "use some of: ${all[*]} ${others[*]}"
    done
    prepare
    for check in "$@"; do
        say "--- $check"
        start=$SECONDS
        if "$check"; then
            summary+=("passed  $check ($((SECONDS - start)) s)")
        else
            summary+=("FAILED  $check ($((SECONDS - start)) s)")
            failed+=("$check")
            # Without a build nothing else says anything new.
            [ "$check" != build ] || break
        fi
    done
    say "--- $((SECONDS - began)) s in all"
    printf '%s\n' "${summary[@]}" >&2
    [ ${#failed[@]} = 0 ] || fail "${#failed[@]} of $# failed" "run them alone: tests/run.sh ${failed[*]}"
    say "all passed"
}

main "$@"
