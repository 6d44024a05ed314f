#!/usr/bin/env bash
# Holds the interface against its own OpenAPI document: schemathesis makes requests from the document,
# right and wrong ones, and checks every reply against it.
#
#   scripts/openapi-check.sh              a cluster of three with a facade, about three minutes
#   CHECK_SECONDS=30 scripts/openapi-check.sh --include-path /v1/items
#
# Options go to schemathesis. What is started listens on loopback on free ports, keeps its data in a
# directory for temporary files, and ends with this script. schemathesis comes into a virtual
# environment of its own under target/. PYGMY_BIN names another binary and skips the build.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SCHEMATHESIS=4.32.5
readonly SEED=20190401
readonly CHECK_SECONDS="${CHECK_SECONDS:-180}"
readonly TARGET="${CARGO_TARGET_DIR:-target}"
readonly VENV="$TARGET/schemathesis-$SCHEMATHESIS"
BIN="${PYGMY_BIN:-$TARGET/debug/pygmy}"
PIDS=()
DIR=

# What the environment says about another store must not reach the commands below.
unset PYGMY_URL

say() { printf 'openapi-check: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

stop() {
    local pid
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do wait "$pid" 2>/dev/null || true; done
    [[ -z $DIR ]] || rm -rf "$DIR"
}
trap stop EXIT
trap 'exit 130' INT TERM

install() {
    [[ -x $VENV/bin/schemathesis ]] && return
    say "installing schemathesis $SCHEMATHESIS"
    rm -rf "$VENV"
    python3 -m venv "$VENV" || die "python3 -m venv does not work; on Debian: apt-get install python3-venv"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS" ||
        die "schemathesis could not be installed; the reason is above"
}

# Seven ports that nobody listens on, below the range from which outgoing connections get theirs.
free_ports() {
    python3 - <<'END'
import random, socket

held = []
while len(held) < 7:
    candidate = socket.socket()
    try:
        candidate.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
    except OSError:
        continue
    held.append(candidate)
print(*(s.getsockname()[1] for s in held))
END
}

# start KIND NAME CONFIG [--set KEY=VALUE]...
start() {
    local kind=$1 name=$2 config=$3
    shift 3
    "$BIN" "$kind" --config "$config" "$@" </dev/null >"$DIR/$name.log" 2>&1 &
    PIDS+=($!)
}

cluster() {
    local n
    local -a ports=()
    read -ra ports < <(free_ports)
    # The developers' files, on other ports.
    for n in node1 node2 node3 facade; do
        sed -e "s/127.0.0.1:8101/127.0.0.1:${ports[0]}/; s/127.0.0.1:8102/127.0.0.1:${ports[1]}/" \
            -e "s/127.0.0.1:8103/127.0.0.1:${ports[2]}/; s/127.0.0.1:9101/127.0.0.1:${ports[3]}/" \
            -e "s/127.0.0.1:9102/127.0.0.1:${ports[4]}/; s/127.0.0.1:9103/127.0.0.1:${ports[5]}/" \
            -e "s/127.0.0.1:8080/127.0.0.1:${ports[6]}/; s|run/|$DIR/|" \
            "config/cluster/$n.toml" >"$DIR/$n.toml"
    done
    # A read of what is not there yet waits for it: shortly here.
    for n in node1 node2 node3; do
        start serve "$n" "$DIR/$n.toml" --set api.request_timeout_ms=1000
    done
    start facade facade "$DIR/facade.toml" --set facade.deadline_ms=2000 \
        --set facade.attempt_timeout_ms=1500
    URL="http://127.0.0.1:${ports[6]}"
    if ! "$BIN" wait --timeout 60 --url "$URL" || ! "$BIN" load config/catalog.csv --url "$URL"; then
        tail -n 5 "$DIR"/*.log >&2
        die "the cluster did not start; the ends of its logs are above"
    fi
}

[[ -n ${PYGMY_BIN:-} ]] || cargo build --bin pygmy
[[ -x $BIN ]] || die "$BIN is not a program"
install
DIR=$(mktemp -d)
cluster

found=0
HYPOTHESIS_STORAGE_DIRECTORY="$DIR/hypothesis" PYTHONDONTWRITEBYTECODE=1 "$VENV/bin/schemathesis" \
    --config-file scripts/openapi-check.toml run "$URL/openapi.json" \
    --seed "$SEED" --max-time "$CHECK_SECONDS" --generation-database none "$@" |
    tee "$DIR/report" || found=$?
# Scenarios that broke off in the tool checked nothing, and it does not count them.
if grep -qE '[0-9]+ (errored|errors?)\b' "$DIR/report"; then
    found=1
    say "some requests were not checked: see \"errors\" above" >&2
fi
# A process that ended meanwhile is a finding too.
for pid in "${PIDS[@]}"; do
    if ! kill -0 "$pid" 2>/dev/null; then
        found=1
        tail -n 20 "$DIR"/*.log >&2
        say "a process of the cluster ended; the ends of the logs are above" >&2
    fi
done
exit "$found"
