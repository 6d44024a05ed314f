#!/usr/bin/env bash
# Runs the requests of docs/EXAMPLES.md and of README.md against a cluster of three with a facade, and
# compares the replies with those that stand there.
#
#   scripts/examples-check.sh             half a minute, and the build
#   scripts/examples-check.sh --record    write the replies into docs/EXAMPLES.md instead
#
# Needs curl and python3. What is started listens on loopback on free ports, keeps its data in a
# directory for temporary files, and ends with this script. PYGMY_BIN names another binary and skips the
# build.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'examples-check: %s\n' "$*"; }
die() {
    say "$*" >&2
    exit 1
}

for command in curl python3; do
    command -v "$command" >/dev/null || die "$command is missing; on Debian: apt-get install $command"
done
# shellcheck source=scripts/throwaway-cluster.sh
source scripts/throwaway-cluster.sh

failed=0
# Each document begins with a store of its own.
for document in README.md docs/EXAMPLES.md; do
    cluster
    python3 scripts/examples.py "$document" "$URL" "$@" || failed=1
    all_alive || failed=1
    end_cluster
done
exit "$failed"
