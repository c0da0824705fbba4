#!/usr/bin/env bash
# Runs every check and test of the project, after installing what they need. Needs Rust, and root or sudo where something
# has to be installed. Ends with a summary; the exit status is 0 only when everything passed.
#   tests/run.sh              what each change must pass
#   tests/run.sh --full       and what takes longer: the images, a campaign of 3,000 kickoffs, the benchmark
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
all=(format scripts structure supply build old deploy lint unit doc python e2e campaign home quickstart)
# What `--full` runs as well.
full=(deploy_full campaign_full bench)
# Run by name only.
others=(versions)
# These wait more than they work: each runs beside the check after it, which must build nothing.
beside=(campaign)
with_broker=(build old e2e campaign)
format() { cargo fmt --all --check; }
scripts() { shellcheck -x "${scripts[@]}" && shellcheck -s sh shared/node/src/supervise.sh; }
# No files of a crate that import each other; an AsyncAPI document that its own parser takes.
structure() { tests/circles.py shared/*/src/lib.rs worker/src/lib.rs && node tests/asyncapi/lint.mjs shared/protocol/schemas/asyncapi.json; }
supply() { tests/supply-chain.sh; }
deploy() { tests/deploy.sh; }
deploy_full() { tests/deploy.sh --full; }
build() { cargo build --locked --workspace --all-targets; }
# A worker of an earlier version, which e2e and campaign run beside those of this one. What they leave out without it, they say.
old() {
    if [ -z "${CREWFLEET_OLD_WORKER:-}" ]; then
        CREWFLEET_OLD_WORKER=$(tests/old-worker.sh) || return 1
        export CREWFLEET_OLD_WORKER
    fi
}
lint() {
    cargo clippy --locked --workspace --all-targets -- -D warnings &&
        cargo clippy --locked -p crewfleet-producer --no-default-features --lib -- -D warnings
}
unit() { cargo test --locked --workspace --no-fail-fast --lib --bins --examples; }
# A map of a module may link to what is private in it: it is for readers of the source.
doc() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps && cargo test --locked --workspace --doc; }
python() {
    # A file of tests has an interpreter of its own; two at a time.
    (cd worker/python/tests && printf '%s\n' test_*.py | xargs -P 2 -n 1 "$python" -W error::ResourceWarning -m unittest) &&
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
e2e() { RUST_TEST_THREADS=4 cargo test --locked --workspace --no-fail-fast --test '*'; }

# That the benchmark runs. Its figures are worth something in release, on a machine that does nothing else.
bench() { CREWFLEET_BENCH_PROFILE=dev tests/bench.sh for-each --pairs 1 --json target/bench-check.json; }

# A short campaign: each kind of fault once. The seed makes it the same one each time.
campaign() { run_campaign 600; }
campaign_full() { run_campaign 3000; }
run_campaign() { cargo run --quiet --locked -p crewfleet-tests --bin campaign -- --kickoffs "$1" --seed 7 --faults all --patience-s 120; }

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

declare -A begun=()
failures=()
summary=()
passed() { summary+=("passed  $1 ($2 s)"); }
failed() {
    summary+=("FAILED  $1 ($2 s)")
    failures+=("$1")
}

# begin CHECK: starts it beside what follows; end CHECK: waits for it, and shows what it said.
begin() {
    say "--- $1, beside the next"
    # A process group of its own, which an interrupted run ends.
    set -m
    (
        start=$SECONDS
        "$1" >"$CREWFLEET_DIR/log/$1.log" 2>&1 && code=0 || code=$?
        echo "$((SECONDS - start))" >"$CREWFLEET_DIR/log/$1.took"
        exit "$code"
    ) </dev/null &
    begun[$1]=$!
    set +m
}
end() {
    local outcome=passed
    wait "${begun[$1]}" || outcome=failed
    say "--- $1"
    cat "$CREWFLEET_DIR/log/$1.log"
    "$outcome" "$1" "$(cat "$CREWFLEET_DIR/log/$1.took")"
    unset "begun[$1]"
}

end_all() {
    local check
    for check in "${!begun[@]}"; do end "$check"; done
}
end_begun() {
    local group
    for group in "${begun[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
}
trap end_begun EXIT

main() {
    local check began=$SECONDS start
    if [ "${1:-}" = --rabbitmq ]; then
        [ "${2:-}" = 4 ] || fail "--rabbitmq ${2:-} is not known" "say --rabbitmq 4, or leave it out for Debian's own RabbitMQ"
        shift 2
        [ $# -gt 0 ] || set -- "${with_broker[@]}"
        CREWFLEET_RABBITMQ_BIN_DIR=$(tests/rabbitmq-4.sh)
        export CREWFLEET_RABBITMQ_BIN_DIR
    fi
    if [ "${1:-}" = --full ]; then set -- "${all[@]}" "${full[@]}"; fi
    [ $# -gt 0 ] || set -- "${all[@]}"
    for check in "$@"; do
        [[ " ${all[*]} ${full[*]} ${others[*]} " == *" $check "* ]] || fail "there is no check named $check" "use some of: ${all[*]} ${full[*]} ${others[*]}"
    done
    prepare
    for check in "$@"; do
        if [[ " ${beside[*]} " == *" $check "* ]]; then
            begin "$check"
            continue
        fi
        say "--- $check"
        start=$SECONDS
        if "$check"; then
            passed "$check" $((SECONDS - start))
        else
            failed "$check" $((SECONDS - start))
            # Without a build nothing else says anything new.
            [ "$check" != build ] || break
        fi
        end_all
    done
    end_all
    say "--- $((SECONDS - began)) s in all"
    printf '%s\n' "${summary[@]}" >&2
    [ ${#failures[@]} = 0 ] || fail "${#failures[@]} of $# failed" "run them alone: tests/run.sh ${failures[*]}"
    say "all passed"
}

main "$@"
