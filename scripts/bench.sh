#!/usr/bin/env bash
# Measures Pygmy, and other stores beside it on this machine; all options go to `pygmy-peers`.
#
#   scripts/bench.sh --rounds 1 --seconds 2              Pygmy alone
#   scripts/bench.sh --peers etcd,postgres --rounds 5    etcd and PostgreSQL too
#
# What it starts listens on loopback, keeps its data in a directory for temporary files, and ends with
# it. Debian's packages of the peers are installed where this runs as root and they are missing; their
# own services are not used. A peer that is not there is left out.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'bench: %s\n' "$*" >&2; }

# install PEER PACKAGE: unless it is there.
install_peer() {
    case $1 in
        etcd) command -v etcd >/dev/null && return ;;
        postgres) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && return ;;
    esac
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        say "$1 is not installed, and only root can do that; on Debian: apt-get install $2"
        return
    fi
    say "installing $2"
    apt-get update --quiet >&2 &&
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --yes --quiet \
            --no-install-recommends "$2" >&2 ||
        say "$2 could not be installed; the reason is above"
}

peers=
for ((place = 1; place <= $#; place++)); do
    case ${!place} in
        --peers=*) peers=${!place#--peers=} ;;
        --peers)
            next=$((place + 1))
            peers=${!next:-}
            ;;
    esac
done

features=()
if [[ -n $peers ]]; then
    features=(--features pygmy-peers/peers)
    [[ ",$peers," == *,etcd,* ]] && install_peer etcd etcd-server
    [[ ",$peers," == *,postgres,* ]] && install_peer postgres postgresql
fi

target="${CARGO_TARGET_DIR:-target}/release"
cargo build --release --bin pygmy
cargo build --release --package pygmy-peers ${features[@]+"${features[@]}"}
exec "$target/pygmy-peers" --bin "$target/pygmy" "$@"
