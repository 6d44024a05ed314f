#!/usr/bin/env bash
# What age does to a cluster: a store that has grown to ORDERS orders beside an empty one, its start, its
# disk, and a follower that was away for ENTRIES entries while the others sold on.
#
#   scripts/endurance.sh                                                 ten million orders, a million entries
#   ORDERS=200000 ENTRIES=50000 FILL_SECONDS=10 scripts/endurance.sh     a quick look
#
# It takes over this checkout's cluster: it begins with `make cluster-reset` and ends with it. Every
# figure is printed as it is measured. It fills the store with single orders at full load, for a quarter of an
# hour or longer, and tells what snapshots and purges cost meanwhile and whether anybody stood for election, and
# what backups cost that are taken at full load.
# Machines are not equally fast for an hour: what is compared is measured in turns, or in the seconds of one run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ORDERS=${ORDERS:-10000000}
ENTRIES=${ENTRIES:-1000000}
FILL_SECONDS=${FILL_SECONDS:-300}
RUNS=${RUNS:-3}
URL=http://127.0.0.1:8101
BIN="${CARGO_TARGET_DIR:-target}/release/pygmy"
cargo build --release --package pygmy --package pygmy-peers --bin pygmy --bin pygmy-peers
export PYGMY_BIN="$BIN" # cluster.sh need not build at every start
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }

# field NAME: of the JSON line on standard input, a number at the top level.
field() { grep -o "\"$1\":[0-9.]*" | tail -1 | cut -d: -f2; }

bench() { "$BIN" bench --direct --url "$URL" --json "$@"; }

# Orders a second of 64 clients: of the store here, and of an empty one of the same kind, which comes and goes.
buys() { bench --mix buy --seconds 8 --no-prepare | tail -1 | field orders_per_second; }

buys_of_empty() {
    "${BIN%/*}/pygmy-peers" --bin "$BIN" --phases buy-64 --rounds 1 --seconds 8 \
        --out "$work/empty" >/dev/null 2>&1
    grep '"phase":"buy-64"' "$work/empty" | field per_second
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

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) printf "%.2f", a / b; else printf "-" }'; }

# A line for each second of a run, as it ends: the time, orders, the 99th percentile in microseconds.
seconds() {
    local line
    while IFS= read -r line; do
        printf '%(%s)T %s\n' -1 "$line"
    done | sed -nE 's/^([0-9]+) .*"p99":([0-9]+).*"operations":([0-9]+),"second".*/\1 \3 \2/p'
}

# When any node built a snapshot or purged its log for it, "FROM TO" in seconds. The log is purged in strides for some
# seconds after a snapshot.
snapshots() {
    local node line
    for node in node1 node2 node3; do
        { grep -hE '"?(building|built) a snapshot' "run/$node/log" || true; } | while read -r line; do
            printf '%s %s\n' "$(date -d "${line%% *}" +%s)" "$(grep -oE 'building|built' <<<"$line")"
        done | awk '$2 == "building" { from = $1 } $2 == "built" { print from, $1 + 10 }'
    done
}

# beside WHAT WINDOWS FILE [OTHERS]: the seconds of a run that lie in WINDOWS beside those that do not; what lies in
# OTHERS counts for neither.
beside() {
    local part
    touch "$work/none"
    awk -v with="$work/with" -v without="$work/without" '
        BEGIN { printf "" >with; printf "" >without }
        FILENAME == ARGV[1] { from[++n] = $1; to[n] = $2; next }
        FILENAME == ARGV[2] { leave[++l] = $1; until[l] = $2; next }
        {
            for (i = 1; i <= l; i++) if ($1 >= leave[i] && $1 <= until[i]) next
            file = without; for (i = 1; i <= n; i++) if ($1 >= from[i] && $1 <= to[i]) file = with; print >file
        }
    ' "$2" "${4:-$work/none}" "$3"
    for part in with without; do
        rate[$part]=$(cut -d' ' -f2 "$work/$part" | median)
        tail[$part]=$(cut -d' ' -f3 "$work/$part" | median)
    done
    printf '%d s with %s: %s of the orders/s and %s of the p99 of the other seconds' \
        "$(wc -l <"$work/with")" "$1" "$(ratio "${rate[with]}" "${rate[without]}")" \
        "$(ratio "${tail[with]}" "${tail[without]}")"
}

around_snapshots() {
    snapshots >"$work/snapshots"
    beside "a snapshot or purge" "$work/snapshots" "$1"
}
declare -A rate tail

# dents FILE: what the seconds of a run were like, and the slowest ten of them in a row.
dents() {
    local rate p99
    cut -d' ' -f2,3 "$1" >"$work/seconds"
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
bench --mix buy --seconds 1 >/dev/null # the items

say "filling up to $ORDERS orders, one by one, by 64 clients; term $(term)"
count=$(orders)
while ((count < ORDERS)); do
    bench --mix buy --seconds "$FILL_SECONDS" --no-prepare | seconds >"$work/fill"
    count=$(orders)
    say "$count orders, term $(term), $(dents "$work/fill"); $(around_snapshots "$work/fill")"
done

# A backup, and as long without one, so that there is something to compare with; under load.
bench --mix buy --seconds "$FILL_SECONDS" --no-prepare | seconds >"$work/fill" &
load=$!
: >"$work/backups"
sleep 2
while kill -0 "$load" 2>/dev/null; do
    from=$(date +%s)
    "$BIN" backup "$work/backup" --force --json --url "$URL" >"$work/backup.json"
    to=$(date +%s)
    printf '%s %s\n' "$from" "$to" >>"$work/backups"
    sleep $((to - from + 1))
done
wait "$load"
snapshots >"$work/snapshots"
say "$(wc -l <"$work/backups") backups under load, the last of $(field orders <"$work/backup.json") orders and \
$(($(field bytes <"$work/backup.json") >> 20)) MB in $((to - from)) s; \
$(beside "a backup" "$work/backups" "$work/fill" "$work/snapshots")"
start=$(date +%s.%N)
"$BIN" restore --single --data "$work/restored" "$work/backup" >/dev/null
say "one is restored in $(seconds_since "$start") s"
rm -rf "$work/restored" "$work/backup"

for ((run = 0; run < RUNS; run++)); do
    full=$(buys)
    # Aside, so that it does not share the machine; it comes back below.
    scripts/cluster.sh down >/dev/null
    empty=$(buys_of_empty)
    scripts/cluster.sh up >/dev/null
    say "a store with $count orders: $full orders/s, an empty one: $empty, $(ratio "$full" "$empty")"
done
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
bench --mix buy --seconds 90 --no-prepare | seconds >"$work/during" &
load=$!
level=0
start=$(date +%s.%N)
scripts/cluster.sh start node3 >/dev/null
say "node3 runs again after $(seconds_since "$start") s"
while kill -0 "$load" 2>/dev/null; do
    lag=$(member node3 lag)
    if [[ -n $lag ]] && ((lag < 1000)); then
        say "node3 is level (lag $lag) after $(seconds_since "$start") s"
        level=$(date +%s)
        break
    fi
    sleep 0.5
done
wait "$load"
# Three nodes that are level are the rule: what the way there costs is counted against them.
catching_up=$(awk -v level="$level" '$1 <= level { print $2 }' "$work/during" | median)
after=$(awk -v level="$level" '$1 > level + 1 { print $2 }' "$work/during" | median)
say "orders/s with two nodes before: $before; while node3 caught up: $catching_up; with three nodes after: \
$after, so $(ratio "$catching_up" "$after") of that; second by second:"
cut -d' ' -f2 "$work/during" | tr '\n' ' '
echo
scripts/cluster.sh reset >/dev/null
