#!/usr/bin/env bash
# What age does to a cluster: a store that has grown to ORDERS orders beside an empty one, its start, its
# disk, and a follower that was away for ENTRIES entries while the others sold on.
#
#   scripts/endurance.sh                                                 ten million orders, a million entries
#   ORDERS=200000 ENTRIES=50000 FILL_SECONDS=10 scripts/endurance.sh     a quick look
#
# It takes over this checkout's cluster: it begins with `make cluster-reset` and ends with it. Every
# figure is printed as it is measured. It fills the store with single orders at full load, for a quarter of an
# hour or longer, and tells what snapshots and purges cost meanwhile and whether anybody stood for election.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ORDERS=${ORDERS:-10000000}
ENTRIES=${ENTRIES:-1000000}
FILL_SECONDS=${FILL_SECONDS:-300}
RUNS=${RUNS:-3}
URL=http://127.0.0.1:8101
BIN="${CARGO_TARGET_DIR:-target}/release/pygmy"
cargo build --release --bin pygmy
export PYGMY_BIN="$BIN" # cluster.sh need not build at every start
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }

# field NAME: of the JSON line on standard input, a number at the top level.
field() { grep -o "\"$1\":[0-9.]*" | tail -1 | cut -d: -f2; }

bench() { "$BIN" bench --direct --url "$URL" --json "$@"; }

# The median of RUNS runs: orders a second of 64 clients.
buys() {
    local run
    for ((run = 0; run < RUNS; run++)); do
        bench --mix buy --seconds 8 | tail -1 | field orders_per_second
    done | sort -n | sed -n "$(((RUNS + 1) / 2))p"
}

# Orders in the store: the number of one that is placed now.
orders() { "$BIN" buy 1000000001 --json --url "$URL" | grep -o '"id": *[0-9]*' | grep -o '[0-9]*'; }

seconds_since() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }'; }

disk() { du -sm run/node1/data | cut -f1; }
memory() { awk '/^VmRSS/ { printf "%d", $2 / 1024 }' "/proc/$(<run/node1/pid)/status"; }

# start_of NODE: stops it (SIGKILL) and tells how long it takes until it serves again.
start_of() {
    local from
    scripts/cluster.sh kill "$1" >/dev/null
    from=$(date +%s.%N)
    scripts/cluster.sh start "$1" >/dev/null
    seconds_since "$from"
}

# member NAME FIELD: of the member, as the cluster sees it.
member() {
    "$BIN" cluster status --json --url "$URL" | tr -d ' \n' | grep -o "{[^{}]*\"name\":\"$1\"[^{}]*}" |
        grep -o "\"$2\":[a-z0-9]*" | cut -d: -f2
}

term() { "$BIN" cluster status --json --url "$URL" | tr -d ' \n' | field term; }

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# dents FILE: what the seconds of a run were like, and the slowest ten of them in a row.
dents() {
    local rate p99
    sed -nE 's/.*"p99":([0-9]+).*"operations":([0-9]+),"second".*/\2 \1/p' "$1" >"$work/seconds"
    rate=$(cut -d' ' -f1 "$work/seconds" | median)
    p99=$(cut -d' ' -f2 "$work/seconds" | median)
    awk -v rate="$rate" -v p99="$p99" -v window=10 '
        { o[NR] = $1; p[NR] = $2; sum += $1; tail += $2 }
        NR > window { sum -= o[NR - window]; tail -= p[NR - window] }
        NR >= window { if (!n++ || sum < least) { least = sum; at = tail } }
        END {
            printf "%d orders/s and p99 %.1f ms in the median second, ", rate, p99 / 1000
            printf "%.2f and %.1f times that in the slowest ten in a row", \
                least / window / rate, at / window / p99
        }' "$work/seconds"
}

scripts/cluster.sh reset >/dev/null
scripts/cluster.sh up >/dev/null
empty=$(buys)
say "an empty store: $empty orders/s"

say "filling up to $ORDERS orders, one by one, by 64 clients; term $(term)"
count=$(orders)
while ((count < ORDERS)); do
    bench --mix buy --seconds "$FILL_SECONDS" --no-prepare >"$work/fill"
    count=$(orders)
    say "$count orders, term $(term), $(dents "$work/fill")"
done
full=$(buys)
say "with $(orders) orders: $full orders/s, $(awk -v a="$full" -v b="$empty" \
    'BEGIN { printf "%.2f", a / b }') of the empty store"
say "a node holds $(disk) MB on disk, $(memory) MB in memory"
say "a killed follower serves again after $(start_of node2) s"

scripts/cluster.sh kill node3 >/dev/null
while [[ $(member node3 up) != false ]]; do sleep 0.1; done
from=$(orders)
count=$from
while ((count - from < ENTRIES)); do
    bench --mix buy --clients 256 --seconds 20 --no-prepare >/dev/null
    count=$(orders)
done
say "node3 is down, $((count - from)) orders went by"
before=$(bench --mix buy --seconds 8 | tail -1 | field orders_per_second)
bench --mix buy --seconds 60 --no-prepare >"$work/during" &
load=$!
start=$(date +%s.%N)
scripts/cluster.sh start node3 >/dev/null
say "node3 runs again after $(seconds_since "$start") s"
while kill -0 "$load" 2>/dev/null; do
    lag=$(member node3 lag)
    if [[ -n $lag ]] && ((lag < 1000)); then
        say "node3 is level (lag $lag) after $(seconds_since "$start") s"
        break
    fi
    sleep 0.5
done
wait "$load"
say "orders/s with two nodes before: $before; while node3 caught up and after, second by second:"
grep -o '"operations":[0-9]*,"second"' "$work/during" | grep -o '[0-9]*' | tr '\n' ' '
echo
scripts/cluster.sh reset >/dev/null
