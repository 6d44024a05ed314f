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

say() { printf 'openapi-check: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

# shellcheck source=scripts/throwaway-cluster.sh
source scripts/throwaway-cluster.sh
readonly VENV="$TARGET/schemathesis-$SCHEMATHESIS"

install() {
    [[ -x $VENV/bin/schemathesis ]] && return
    say "installing schemathesis $SCHEMATHESIS"
    rm -rf "$VENV"
    python3 -m venv "$VENV" || die "python3 -m venv does not work; on Debian: apt-get install python3-venv"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS" ||
        die "schemathesis could not be installed; the reason is above"
}

install
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
all_alive || found=1
exit "$found"
