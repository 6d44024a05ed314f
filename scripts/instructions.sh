#!/usr/bin/env bash
# Counts the instructions of what is done most: a purchase and a batch in apply, an append to the log,
# a lookup. A guard against slow creep that no single change shows.
#
#   scripts/instructions.sh check    fails where a count is more than 10 % above the recorded one
#   scripts/instructions.sh record   writes what is counted now to raft/benches/instructions.toml
#
# Needs valgrind. A count is that of a longer run less that of a shorter one, so that the set-up is
# not in it. It is the compiler's more than the machine's: another version of Rust may count a few
# percent more or less, which is why the file names the one it was recorded with.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly RECORDED=raft/benches/instructions.toml
readonly ALLOWED_PERCENT=10
# case:rounds of the shorter run:rounds of the longer run
readonly CASES=(buy:1024:3072 batch:64:192 append:64:320 lookup:1024:4096)

# The same code on every machine: no instructions that only some processors have in the C library,
# no pages that are given back when a clock says so.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM
export MIMALLOC_PURGE_DELAY=-1

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# The instructions of one run.
run() {
    local said
    said=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1) ||
        fail "$1 failed under valgrind:" "$said"
    sed -n 's/.*Collected : \([0-9]\+\).*/\1/p' <<<"$said"
}

# What a round of a case takes.
count() {
    local shorter longer
    shorter=$(run "$1" "$2")
    longer=$(run "$1" "$3")
    [[ -n "$shorter" && -n "$longer" ]] || fail "valgrind counted nothing for $1"
    echo $(((longer - shorter) / ($3 - $2)))
}

recorded() { sed -n "s/^$1 = \([0-9]\+\)\$/\1/p" "$RECORDED"; }

[[ "${1:-}" == check || "${1:-}" == record ]] || fail "usage: $0 check|record"
[[ "$1" == record || -f "$RECORDED" ]] || fail "$RECORDED is missing: make instructions-record"
command -v valgrind >/dev/null || fail "valgrind is missing: apt-get install valgrind"

program=$(cargo build --release --package pygmy-raft --bench instructions \
    --message-format=json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\/instructions-[^"]*\)".*/\1/p')
[[ -x "$program" ]] || fail "cargo built no benchmark of the name instructions"
compiler=$(rustc --version)

lines=()
worse=0
for entry in "${CASES[@]}"; do
    IFS=: read -r name shorter longer <<<"$entry"
    now=$(count "$name" "$shorter" "$longer")
    lines+=("$name = $now")
    if [[ "$1" == check ]]; then
        before=$(recorded "$name")
        [[ -n "$before" ]] || fail "$RECORDED has no $name; record it: make instructions-record"
        verdict=ok
        if ((now * 100 > before * (100 + ALLOWED_PERCENT))); then
            verdict="more than $ALLOWED_PERCENT % above"
            worse=1
        elif ((now * 100 < before * (100 - ALLOWED_PERCENT))); then
            verdict="ok, and so much less that it should be recorded: make instructions-record"
        fi
        printf '%-8s %9d instructions, recorded %9d (%+d per mille): %s\n' \
            "$name" "$now" "$before" "$(((now - before) * 1000 / before))" "$verdict"
    fi
done

if [[ "$1" == record ]]; then
    {
        echo '# Instructions of one round of each case; see scripts/instructions.sh. Not edited by hand:'
        echo '# `make instructions-record` writes it, and the change says why it counts more.'
        echo "compiler = \"$compiler\""
        printf '%s\n' '' '[instructions]' "${lines[@]}"
    } >"$RECORDED"
    cat "$RECORDED"
elif ((worse)); then
    fail "recorded with $(sed -n 's/^compiler = "\(.*\)"$/\1/p' "$RECORDED"), counted with $compiler." \
        "Find what costs more; if it is worth it, record anew with \`make instructions-record\`" \
        "and say why in the commit."
fi
