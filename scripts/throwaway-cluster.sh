# shellcheck shell=bash
# A cluster of three and a facade to check things against: on loopback, on free ports, with its data in
# a directory for temporary files, gone with the script that reads this. PYGMY_BIN names another binary
# and skips the build.
#
# Read by scripts that define `die`; `cluster` sets URL, `end_cluster` ends it,
# `all_alive` says whether nothing ended.

readonly TARGET="${CARGO_TARGET_DIR:-target}"
BIN="${PYGMY_BIN:-$TARGET/debug/pygmy}"
PIDS=()
DIR=$(mktemp -d)
URL=

# What the environment says about another store must not reach the commands below.
unset PYGMY_URL

end_cluster() {
    local pid
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do wait "$pid" 2>/dev/null || true; done
    PIDS=()
    rm -rf "${DIR:?}"/*
}
stop() {
    end_cluster
    rm -rf "$DIR"
}
trap stop EXIT
trap 'exit 130' INT TERM

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

# A process that ended meanwhile is a finding.
all_alive() {
    local pid
    for pid in "${PIDS[@]}"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -n 20 "$DIR"/*.log >&2
            say "a process of the cluster ended; the ends of the logs are above" >&2
            return 1
        fi
    done
}

[[ -n ${PYGMY_BIN:-} ]] || cargo build --bin pygmy
[[ -x $BIN ]] || die "$BIN is not a program"
