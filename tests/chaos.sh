#!/bin/sh
# Kills a cluster under load and checks that nothing was lost: builds, then passes all options on.
#   tests/chaos.sh --seconds 60 --seed 7 | failover --repeat 10 | bench --op buy
# CHAOS_FEATURES=sabotage builds the nodes with that cargo feature.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --bin pygmy ${CHAOS_FEATURES:+--features "$CHAOS_FEATURES"}
cargo build --release -p pygmy-chaos
target="${CARGO_TARGET_DIR:-target}/release"
# The first word may name a subcommand; --bin belongs behind it.
case "${1:-}" in
failover | bench)
    command=$1
    shift
    exec "$target/pygmy-chaos" "$command" --bin "$target/pygmy" "$@"
    ;;
esac
exec "$target/pygmy-chaos" --bin "$target/pygmy" "$@"
