#!/usr/bin/env bash
# Runs every check and test of the project, after installing what they need. Needs Rust, and root or sudo where something
# has to be installed. Ends with a summary; the exit status is 0 only when everything passed.
#   tests/run.sh              what each change must pass; in a fresh clone on two cores in 15 minutes
#   tests/run.sh quick        format, lints, unit tests and one kickoff of a CrewAI crew: within 3 minutes once it is built
#   tests/run.sh --full       all of the first, and what takes longer: the images, campaigns of 600 and 3,000 kickoffs and of
#                             a batch of 50,000, all projects at home, what changes seldom, the whole documentation,
#                             the benchmark
#   tests/run.sh e2e python   only these (see below for their names)
#   tests/run.sh --rabbitmq 4 [CHECK...]   against RabbitMQ 4.0 from Debian 13; by default the checks that run a broker
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/lib.sh
source deploy/build-tools.sh

scripts=(deploy/*.sh tests/*.sh tests/*/*.sh .ci/run)
python=${CREWFLEET_PYTHON:-$CREWFLEET_DIR/python/bin/python}

# The names of the checks, in their order: what fails fast comes first, and what needs nothing installed. All Rust is built
# as one workspace in one profile, by Clippy's compiler, so that one build serves every check and the lint too.
all=(format build lint structure unit e2e scripts lint_python supply python deploy client ui home campaign quickstart)
# What `--full` runs as well.
full=(doc doc_full asyncapi openapi amp_clients pyright ui_full deploy_full e2e_full mixed_fleet python_full home_full imported quickstart_full client_pythons wheel_full campaign_600 campaign_3000 campaign_batch bench)
quick=(format build lint lint_python unit one_kickoff)
# Run by name only.
others=(one_kickoff versions wheel)
# These need Rust alone: what the others need is installed beside them.
need_nothing=(format build lint)
# One after the other these run beside the others, the first of them beside the build already: they need nothing of it. The
# others find built what they need, in two rows, since they wait more than they compute.
beside_build=(scripts lint_python supply python)
beside=(deploy client home quickstart)
beside_too=(ui campaign)
# End-to-end tests of what changes seldom, with nodes and services of their own: only `--full` runs them.
seldom=(alarms:: alerting:: cluster:: dev::once_gives dev::own::missing_ dev::own::a_project dev::own::without_inputs doctor::management::policies gateway_clocks:: gateway_https:: gateway_operations:: leftovers:: no_streams:: systemd:: tls:: permissions:: dashboards::each_panel_ gateway_memory:: node::)
with_broker=(build e2e mixed_fleet openapi amp_clients ui campaign)

# Clippy's compiler makes the same programs, and keeps what it has to say of each crate of the workspace.
RUSTC_WORKSPACE_WRAPPER=$(rustc --print sysroot)/bin/clippy-driver
[ -x "$RUSTC_WORKSPACE_WRAPPER" ] || fail "Clippy is not installed ($RUSTC_WORKSPACE_WRAPPER)" "install it: rustup component add clippy"
export RUSTC_WORKSPACE_WRAPPER

format() { cargo fmt --all --check; }
scripts() { shellcheck -x "${scripts[@]}" && shellcheck -s sh shared/node/src/supervise.sh; }
lint_python() { tests/lint-python.sh; }
# No files of a crate that import each other.
structure() { tests/circles.py shared/*/src/lib.rs producer/client/src/lib.rs producer/gateway/src/lib.rs producer/sinks/src/lib.rs producer/cli/src/main.rs worker/src/lib.rs tests/src/lib.rs; }
# The AsyncAPI document, as its own parser takes it.
asyncapi() { tests/test-env.sh asyncapi && node tests/asyncapi/lint.mjs shared/protocol/schemas/asyncapi.json; }
# The gateway's OpenAPI document, by a linter; and a gateway that does what it says, called by a tool and by a client made of it.
openapi() {
    tests/test-env.sh openapi && "$CREWFLEET_DIR/test-openapi-lint/node_modules/.bin/redocly" lint --extends recommended producer/openapi.json &&
        cargo test --locked --workspace --no-fail-fast --test e2e -- gateway_openapi::
}
# Public clients of CrewAI AMP, unchanged, with a gateway in AMP's place.
amp_clients() { tests/test-env.sh amp-clients && cargo test --locked --workspace --no-fail-fast --test e2e -- gateway_amp_clients::; }
supply() { tests/supply-chain.sh; }
deploy() { tests/deploy.sh; }
deploy_full() { tests/deploy.sh --full; }
build() { cargo build --locked --workspace --all-targets; }
# What the build had to warn of, which cargo says again.
lint() {
    local said
    said=$(cargo build --locked --workspace --all-targets 2>&1) || { echo "$said" && return 1; }
    ! grep --quiet '^warning' <<<"$said" || { echo "$said" && return 1; }
}
# A worker of an earlier version.
old() {
    if [ -z "${CREWFLEET_OLD_WORKER:-}" ]; then
        CREWFLEET_OLD_WORKER=$(tests/old-worker.sh) || return 1
        export CREWFLEET_OLD_WORKER
    fi
}
unit() { cargo test --locked --workspace --no-fail-fast --lib --bins --examples; }
# The examples of the documentation run, and its links lead somewhere. tests/rustdoc.sh looks at the links of a library when
# cargo runs its examples, for which all is built already; `cargo doc` would compile every dependency once more.
doc() { RUSTDOC=$PWD/tests/rustdoc.sh cargo test --locked --workspace --no-fail-fast --doc; }
# A map of a module may link to what is private in it: it is for readers of the source.
doc_full() { RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps; }
python() {
    # Files of tests that share an interpreter share a fork server, whose import of CrewAI is what they cost most; two at a time.
    (cd worker/python/tests && printf '%s\n' test_*.py | xargs -P 2 -n 11 "$python" -W error::ResourceWarning -m unittest) &&
        (cd tests/openai && "$python" -W error::ResourceWarning -m unittest discover -s tests -t .) &&
        (cd tests/as_at_home && "$python" -m unittest discover -s tests -t .)
}
# The Python package as pyright has it; mypy looks at it in each run.
pyright() { (cd producer/python && "$CREWFLEET_DIR/test-javascript/node_modules/.bin/pyright" --pythonpath "$CREWFLEET_DIR/test-client/bin/python" src ../../deploy/examples/clients); }
# The package `crewfleet` for Python, with a broker and workers of its own.
client() { (cd producer/python && PYTHONPATH=src "$CREWFLEET_DIR/test-client/bin/python" -m pytest -q -p crewfleet.pytest_plugin -p no:cacheprovider); }
# The dashboard in Debian's Chromium, with a broker, workers and gateways of its own. Tests wait more than they work.
ui_tests() { (cd tests/ui && "$CREWFLEET_DIR/test-ui/bin/python" -m pytest -q -n 4 -p no:cacheprovider "$@"); }
# axe looks at each page in each look for as long as all else takes.
ui() { ui_tests -k "not keeps_anybody_out"; }
ui_full() { ui_tests; }
# In each Python that it is for, as far as they are here.
client_pythons() { tests/client-pythons.sh; }
# The wheel, installed and used.
wheel() { tests/wheel.sh; }
wheel_full() { tests/wheel.sh --full; }
# Those, too, that import CrewAI in interpreters of their own.
python_full() { CREWFLEET_TEST_FULL=1 python; }
# What a project gives here and in plain Python: the shape that has most in it.
home() { at_home check.py judges; }
# All shapes and, where CREWFLEET_EXAMPLES names them, CrewAI's public projects.
home_full() { at_home check.py; }
at_home() {
    local interpreter=$python
    if [ -n "${CREWFLEET_EXAMPLES:-}" ]; then interpreter=$(tests/as_at_home/python-env.sh) || return 1; fi
    "$interpreter" "tests/as_at_home/$1" "${@:2}"
}
# A `main.py` as it is, and with the import of its crew changed: the example's and, as above, three public ones.
imported() { at_home by_client.py; }
# The crew host's tests with older CrewAIs and other Pythons; an hour, and 8 GB.
versions() { tests/versions.sh; }
# These tests wait more than they work, so more run at once than there are cores.
e2e() { RUST_TEST_THREADS=8 cargo test --locked --workspace --no-fail-fast --test '*' -- "${seldom[@]/#/--skip=}" --skip=mixed_fleet:: --skip=gateway_openapi:: --skip=gateway_amp_clients::; }
# Those that are about many, with all of them, and those that `e2e` leaves out.
e2e_full() {
    CREWFLEET_TEST_FULL=1 cargo test --locked --workspace --no-fail-fast --test e2e -- "${seldom[@]}" bad_input:: client::many_ crewai::many_ forks::no_answer limits::many_ dead_letters::browse::two_
}
# Workers of an earlier version beside those of this one.
mixed_fleet() { old && cargo test --locked --workspace --no-fail-fast --test e2e -- mixed_fleet::; }
# One kickoff of a CrewAI crew: broker, worker, events, reply.
one_kickoff() { cargo test --locked --workspace --test e2e crewai::crewai_s_events; }

# That the benchmark runs. Its figures are worth something in release, on a machine that does nothing else.
bench() { CREWFLEET_BENCH_PROFILE=dev tests/bench.sh for-each sinks gateway gateway-store --pairs 1 --stored 20000 --json target/bench-check.json; }

# A short campaign: each kind of fault once, within half a minute. The seed makes it the same one each time.
# Its crews need no CrewAI, whose import is most of what a worker's start costs.
campaign() { CREWFLEET_PYTHON=$CREWFLEET_DIR/test-python/bin/python run_campaign 200 120 --span-s 30; }
campaign_600() { old && run_campaign 600 120; }
campaign_3000() { old && run_campaign 3000 120; }
# A batch of 50,000 rows, which outlives the faults.
campaign_batch() { run_campaign 200 900 --batch-items 50000; }
# So many kickoffs, and for so many seconds after the last fault all may take to be answered.
run_campaign() { "${CARGO_TARGET_DIR:-target}/debug/campaign" --seed 7 --faults all --kickoffs "$1" --patience-s "$2" "${@:3}"; }

# The commands that the README begins with, as a newcomer runs them: the example, and a crew of one's own. The first takes what
# `build` has built; the second, of `--full`, builds what a newcomer builds, which has fewer features.
quickstart() {
    local reply
    reply=$(CREWFLEET_BUILD_TARGETS="--workspace --all-targets" deploy/quickstart.sh --once | tail -n 1) || return 1
    [[ "$reply" == *'"status":"succeeded"'* ]]
}
quickstart_full() {
    local work reply
    work=$(mktemp -d)
    mkdir -p "$work/src/pkg"
    cp tests/crews/own_crew.py "$work/src/pkg/crew.py"
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

installing=
lanes=()
begun=()
failures=()
summary=()
passed() { summary+=("passed  $1 ($2 s)"); }
failed() {
    summary+=("FAILED  $1 ($2 s)")
    failures+=("$1")
}

# What the checks need is installed beside those that need nothing.
begin_installing() {
    rm -f "$CREWFLEET_DIR/log/installed"
    (prepare && touch "$CREWFLEET_DIR/log/installed") </dev/null >"$CREWFLEET_DIR/log/install.log" 2>&1 &
    installing=$!
    installing_since=$SECONDS
}
is_installed() {
    local outcome=passed
    [ -n "$installing" ] || return 0
    wait "$installing" || outcome=failed
    installing=
    cat "$CREWFLEET_DIR/log/install.log" >&2
    "$outcome" install $((SECONDS - installing_since))
    [ "$outcome" = passed ]
}

# begin_beside PROCESS CHECK...: runs these, one after the other, once that process has ended (if one is named), where everything
# is installed. A process group of its own, which an interrupted run ends.
begin_beside() {
    local after=$1
    shift
    [ $# -gt 0 ] || return 0
    begun+=("$@")
    set -m
    (
        trap - EXIT
        [ -z "$after" ] || tail --pid="$after" -f /dev/null
        [ -e "$CREWFLEET_DIR/log/installed" ] || exit
        for check in "$@"; do
            say "--- $check begins beside"
            start=$SECONDS
            "$check" >"$CREWFLEET_DIR/log/$check.log" 2>&1 && outcome=passed || outcome=failed
            echo "$outcome $((SECONDS - start))" >"$CREWFLEET_DIR/log/$check.outcome"
            say "--- $check $outcome"
        done
    ) </dev/null &
    lanes+=($!)
    set +m
}
# Waits for the end of what was begun, and shows what it said.
end_beside() {
    local check outcome took
    wait "${lanes[@]}" || true
    lanes=()
    for check in "${begun[@]}"; do
        say "--- $check"
        cat "$CREWFLEET_DIR/log/$check.log" || true
        read -r outcome took <"$CREWFLEET_DIR/log/$check.outcome" || outcome=failed took=0
        "$outcome" "$check" "$took"
    done
}
end_begun() {
    local lane
    [ -z "$installing" ] || kill -TERM "$installing" 2>/dev/null || true
    for lane in "${lanes[@]}"; do kill -TERM -- "-$lane" 2>/dev/null || true; done
}
trap end_begun EXIT

# Runs these, also after one that failed; fails where there is no build.
run_each() {
    local check start
    for check in "$@"; do
        say "--- $check"
        start=$SECONDS
        if "$check" > >(tee "$CREWFLEET_DIR/log/$check.log") 2>&1; then
            passed "$check" $((SECONDS - start))
        else
            failed "$check" $((SECONDS - start))
            [ "$check" != build ] || return 1
        fi
    done
}

# What a failed check said of its failures: where thousands of lines were printed, nobody finds them.
show_failures() {
    local check log
    for check in "${failures[@]}"; do
        log=$CREWFLEET_DIR/log/$check.log
        [ -s "$log" ] || continue
        say "--- what failed in $check, from $log"
        { grep -E --after-context 4 'panicked at|^E   |^(FAIL|ERROR): |^error|\.\.\. FAILED$' "$log" || tail -n 20 "$log"; } |
            cut -c -400 | head -n 80 >&2 || true
    done
}

main() {
    local check began=$SECONDS
    if [ "${1:-}" = --rabbitmq ]; then
        [ "${2:-}" = 4 ] || fail "--rabbitmq ${2:-} is not known" "say --rabbitmq 4, or leave it out for Debian's own RabbitMQ"
        shift 2
        [ $# -gt 0 ] || set -- "${with_broker[@]}"
        CREWFLEET_RABBITMQ_BIN_DIR=$(tests/rabbitmq-4.sh)
        export CREWFLEET_RABBITMQ_BIN_DIR
    fi
    case ${1:-} in
    --full) set -- "${all[@]}" "${full[@]}" ;;
    quick) set -- "${quick[@]}" ;;
    '') set -- "${all[@]}" ;;
    esac
    for check in "$@"; do
        [[ " ${all[*]} ${full[*]} ${others[*]} " == *" $check "* ]] || fail "there is no check named $check" "use some of: ${all[*]} ${full[*]} ${others[*]}"
    done
    local first=() own=() early=() late=() late_too=()
    for check in "$@"; do
        rm -f "$CREWFLEET_DIR/log/$check.outcome"
        case " ${need_nothing[*]} | ${beside_build[*]} / ${beside[*]} ; ${beside_too[*]} " in
        *" $check "*"|"*) first+=("$check") ;;
        *"|"*" $check "*"/"*) early+=("$check") ;;
        *"/"*" $check "*";"*) late+=("$check") ;;
        *";"*" $check "*) late_too+=("$check") ;;
        *) own+=("$check") ;;
        esac
    done
    begin_installing
    begin_beside "$installing" "${early[@]}"
    # Without a build nothing else says anything new.
    if run_each "${first[@]}" && is_installed; then
        local before=${lanes[0]:-}
        begin_beside "$before" "${late[@]}"
        begin_beside "$before" "${late_too[@]}"
        run_each "${own[@]}" || true
        end_beside
    fi
    say "--- $((SECONDS - began)) s in all"
    show_failures
    printf '%s\n' "${summary[@]}" >&2
    [ ${#failures[@]} = 0 ] || fail "${#failures[@]} of $# failed" "run them alone: tests/run.sh ${failures[*]}"
    say "all passed"
}

main "$@"
