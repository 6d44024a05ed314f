#!/usr/bin/env bash
# What live feeds cost those who write: purchases of 64 clients with and without FOLLOWERS feeds open on one
# node, in turns.
#
#   scripts/followers.sh                                1,000 feeds, five rounds
#   FOLLOWERS=100 ROUNDS=1 scripts/followers.sh         a quick look
#
# It takes over this checkout's cluster: it begins with `make cluster-reset` and ends with it. Those who
# follow run on the same machine and take their share of it.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

FOLLOWERS=${FOLLOWERS:-1000}
ROUNDS=${ROUNDS:-5}
KINDS=${KINDS:-order}
TARGET="${CARGO_TARGET_DIR:-target}"
BIN="${PYGMY_BIN:-$TARGET/release/pygmy}"
URL=http://127.0.0.1:8101
[[ -n ${PYGMY_BIN:-} ]] || cargo build --release --bin pygmy
cargo build --release --example followers
export PYGMY_BIN="$BIN"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }
median() { sort -n "$1" | sed -n "$(((ROUNDS + 1) / 2))p"; }

buys() {
    "$BIN" bench --direct --url "$URL" --mix buy --seconds 8 --json "$@" | tail -1 |
        grep -o '"orders_per_second":[0-9.]*' | tail -1 | cut -d: -f2
}

scripts/cluster.sh reset >/dev/null
scripts/cluster.sh up >/dev/null
buys >/dev/null # the first one puts the items
for ((round = 1; round <= ROUNDS; round++)); do
    alone=$(buys --no-prepare)
    mkfifo "$work/end"
    "$TARGET/release/examples/followers" "${URL#http://}" "$FOLLOWERS" "kinds=$KINDS" \
        <"$work/end" >"$work/heard" &
    exec 3>"$work/end"
    followed=$(buys --no-prepare)
    exec 3>&-
    wait $!
    rm "$work/end"
    echo "$alone" >>"$work/alone"
    echo "$followed" >>"$work/followed"
    awk -v a="$alone" -v f="$followed" 'BEGIN { print f / a }' >>"$work/ratio"
    say "round $round: $alone orders/s alone, $followed with $FOLLOWERS who follow; $(tail -1 "$work/heard")"
done
say "medians: $(median "$work/alone") alone, $(median "$work/followed") followed, $(median "$work/ratio") of it"
scripts/cluster.sh reset >/dev/null
