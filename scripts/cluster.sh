#!/usr/bin/env bash
# Runs a cluster on this machine: starts, stops and shows the processes of a profile.
#
# A profile is a directory under config/: one file for each node and one for the facade, the file's
# name being the process's. What a process leaves is under run/<name>/: data, log, pid. A pid file
# counts only while /proc says that the process was started as this one is, with this file, from here:
# a pid that the system has given to somebody else is never touched.
#
# Needs bash, coreutils and setsid; everything that speaks to the store is the program itself.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROFILES=(cluster seed)
readonly STOP_SECONDS=15
readonly START_SECONDS=60
readonly LOG_BYTES_MAX=$((16 * 1024 * 1024))
readonly BUILT="${CARGO_TARGET_DIR:-target}/release/pygmy"
BIN="${PYGMY_BIN:-$BUILT}"
WAITER=

# What the environment says about another store must not reach the commands below.
unset PYGMY_URL

usage() {
    cat <<'END'
Usage: scripts/cluster.sh COMMAND

  up [PROFILE]     build, start what is not running, load the catalog (profiles: cluster, seed)
  down             stop everything; the data stays
  reset            stop everything and delete the data
  status           the processes and the members
  kill NAME        SIGKILL one process; NAME may be "leader"
  start NAME       start one process again

PYGMY_BIN names another binary and skips the build.
END
}

say() { printf '%s\n' "$*"; }
die() {
    printf 'cluster: %s\n' "$*" >&2
    exit 1
}

# --- profiles and their files -----------------------------------------------------------------------

kind_of() { if [[ $1 == facade ]]; then echo facade; else echo serve; fi; }
config_of() { echo "config/$1/$2.toml"; }

# The names of a profile's processes, the facade last.
names_of() {
    local file name
    for file in "config/$1"/*.toml; do
        name=$(basename "$file" .toml)
        [[ $name == facade ]] || echo "$name"
    done
    echo facade
}

# The addresses that a process listens on, as its file says, the REST interface first.
listens_of() {
    local line
    while IFS= read -r line; do
        if [[ $line =~ ^listen\ =\ \"([^\"]+)\" ]]; then echo "${BASH_REMATCH[1]}"; fi
    done <"$(config_of "$1" "$2")"
}

api_of() {
    local -a listens=()
    mapfile -t listens < <(listens_of "$1" "$2")
    echo "${listens[0]}"
}

# The profile that has a process of this name; for the facade the one that runs.
profile_of() {
    local profile
    if [[ $1 == facade ]]; then
        running_profile || echo "${PROFILES[0]}"
        return
    fi
    for profile in "${PROFILES[@]}"; do
        if [[ -f $(config_of "$profile" "$1") ]]; then
            echo "$profile"
            return
        fi
    done
    die "there is no process named \"$1\"; the names are: $(all_names | tr '\n' ' ')"
}

all_names() {
    local profile
    for profile in "${PROFILES[@]}"; do names_of "$profile"; done | sort -u
}

# --- processes --------------------------------------------------------------------------------------

# Prints the pid of a process of a profile if it runs.
pid_of() {
    local profile=$1 name=$2 pid words count
    [[ -r run/$name/pid ]] || return 1
    pid=$(<"run/$name/pid")
    [[ $pid =~ ^[0-9]+$ && -r /proc/$pid/cmdline ]] || return 1
    mapfile -d '' -t words 2>/dev/null <"/proc/$pid/cmdline" || return 1
    count=${#words[@]}
    ((count >= 4)) || return 1
    # Not by the program's name: PYGMY_BIN may have another.
    [[ ${words[count - 3]} == "$(kind_of "$name")" &&
        ${words[count - 2]} == --config &&
        ${words[count - 1]} == "$(config_of "$profile" "$name")" &&
        /proc/$pid/cwd -ef . ]] || return 1
    echo "$pid"
}

is_running() { pid_of "$1" "$2" >/dev/null; }

# Prints the profile of which something runs.
running_profile() {
    local profile name
    for profile in "${PROFILES[@]}"; do
        for name in $(names_of "$profile"); do
            if is_running "$profile" "$name"; then
                echo "$profile"
                return
            fi
        done
    done
    return 1
}

# The REST interface of the facade, or of any node while the facade is down.
any_url() {
    local profile=$1 name found=
    for name in $(names_of "$profile"); do
        if is_running "$profile" "$name"; then found=$name; fi
    done
    echo "http://$(api_of "$profile" "${found:-facade}")"
}

port_in_use() {
    local host=${1%:*} port=${1##*:}
    (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null
}

start() {
    local profile=$1 name=$2 address
    for address in $(listens_of "$profile" "$name"); do
        if port_in_use "$address"; then
            die "$address is in use by another program, so $name cannot start.
Stop that program (\`ss -ltnp\` shows it), or change the address in $(config_of "$profile" "$name")."
        fi
    done
    mkdir -p "run/$name"
    if [[ -f run/$name/log ]] && (($(stat -c %s "run/$name/log") > LOG_BYTES_MAX)); then
        mv "run/$name/log" "run/$name/log.old"
    fi
    # A session of its own: a Ctrl-C here does not reach it. The lock's descriptor stays here.
    setsid nohup "$BIN" "$(kind_of "$name")" --config "$(config_of "$profile" "$name")" \
        </dev/null >>"run/$name/log" 2>&1 9>&- &
    echo $! >"run/$name/pid.new"
    mv "run/$name/pid.new" "run/$name/pid"
    disown
}

died() {
    local name=$1
    rm -f "run/$name/pid"
    printf 'cluster: %s ended right after its start. The end of run/%s/log:\n\n' "$name" "$name" >&2
    tail -n 15 "run/$name/log" | while IFS= read -r line; do printf '    %s\n' "$line"; done >&2
    printf '\nMend what it says and run the same command again; what runs goes on running.\n' >&2
    printf 'make cluster-down stops it, make cluster-reset deletes its data too.\n' >&2
    exit 1
}

# Waits for `pygmy wait ...` and watches the processes $2... of profile $1 meanwhile.
wait_for() {
    local profile=$1 name
    local -a watched=()
    shift
    while [[ $1 != -- ]]; do
        watched+=("$1")
        shift
    done
    shift
    "$BIN" wait --timeout "$START_SECONDS" "$@" 9>&- &
    WAITER=$!
    while sleep 0.2; do
        kill -0 "$WAITER" 2>/dev/null || break
        for name in "${watched[@]}"; do
            is_running "$profile" "$name" && continue
            stop_waiter
            died "$name"
        done
    done
    if ! wait "$WAITER"; then
        WAITER=
        die "the processes run, but the store does not answer; the reason is above, and more is in run/*/log.
Run the same command again to go on waiting, or make cluster-down to stop."
    fi
    WAITER=
}

stop_waiter() {
    if [[ -n $WAITER ]]; then
        kill "$WAITER" 2>/dev/null || true
        wait "$WAITER" 2>/dev/null || true
        WAITER=
    fi
}
trap stop_waiter EXIT

# Stops the named processes of a profile: SIGTERM to all, SIGKILL to those that do not end.
stop() {
    local profile=$1 name pid waited=0
    local -a left=() still=()
    shift
    for name in "$@"; do
        if pid=$(pid_of "$profile" "$name"); then
            kill -TERM "$pid" 2>/dev/null || true
            left+=("$name")
        fi
    done
    ((${#left[@]} > 0)) || return 0
    printf 'stopping %s ' "${left[*]}"
    while ((${#left[@]} > 0)); do
        sleep 0.1
        waited=$((waited + 1))
        ((waited % 5 != 0)) || printf '.'
        still=()
        for name in "${left[@]}"; do
            pid=$(pid_of "$profile" "$name") || continue
            if ((waited == STOP_SECONDS * 10)); then
                printf '\n%s did not end within %s s and is killed; the end of run/%s/log may say why\n' \
                    "$name" "$STOP_SECONDS" "$name"
                kill -KILL "$pid" 2>/dev/null || true
            elif ((waited > (STOP_SECONDS + 5) * 10)); then
                die "$name (pid $pid) survives SIGKILL: it waits in the kernel, probably for a disk"
            fi
            still+=("$name")
        done
        left=(${still[@]+"${still[@]}"})
    done
    printf ' stopped\n'
}

# --- commands ---------------------------------------------------------------------------------------

lock() {
    mkdir -p run
    command -v flock >/dev/null || return 0
    exec 9>run/.lock
    flock -n 9 || die "another run of this script is at work here; wait for it to end"
}

build() {
    if [[ -n ${PYGMY_BIN:-} ]]; then
        [[ -x $BIN ]] || die "PYGMY_BIN: $BIN is not a program"
        return
    fi
    cargo build --release --bin pygmy || die "the build failed; the compiler's message is above"
}

need_binary() { [[ -x $BIN ]] || die "$BIN is not built yet: make build"; }

up() {
    local profile=${1:-cluster} running name facade
    local -a names=()
    [[ " ${PROFILES[*]} " == *" $profile "* ]] ||
        die "there is no profile \"$profile\"; the profiles are: ${PROFILES[*]}"
    if running=$(running_profile) && [[ $running != "$profile" ]]; then
        die "the profile \"$running\" is running, and both use the facade's address.
Stop it first: make cluster-down; then: make cluster-up PROFILE=$profile"
    fi
    build
    mapfile -t names < <(names_of "$profile")
    for name in "${names[@]}"; do
        if is_running "$profile" "$name"; then
            say "$name is running (pid $(pid_of "$profile" "$name"))"
        else
            start "$profile" "$name"
            say "$name started (pid $(<"run/$name/pid")), log in run/$name/log"
        fi
    done
    facade="http://$(api_of "$profile" facade)"
    wait_for "$profile" "${names[@]}" -- --url "$facade"
    "$BIN" load config/catalog.csv --url "$facade" ||
        die "the catalog was not loaded; the reason is above. Run the same command again."
    "$BIN" cluster status --url "$facade" || die "the members are not known; the reason is above"
    say
    say "The store is at $facade, the nodes at:"
    for name in "${names[@]}"; do
        [[ $name == facade ]] || say "  $name  http://$(api_of "$profile" "$name")"
    done
    say
    say "Try:"
    say "  curl $facade/search/DistributedSystems/"
    say "  $BIN shop"
    say "  make node-kill NODE=leader; $BIN buy 5; make cluster-status"
}

down() {
    local profile name stopped=0
    local -a names=()
    for profile in "${PROFILES[@]}"; do
        mapfile -t names < <(names_of "$profile")
        for name in "${names[@]}"; do
            if is_running "$profile" "$name"; then stopped=1; fi
        done
        # The facade first: nobody is promised anything while the nodes hand over and end.
        stop "$profile" facade
        unset "names[-1]"
        stop "$profile" "${names[@]}"
    done
    for name in $(all_names); do rm -f "run/$name/pid"; done
    if ((stopped == 0)); then say "nothing was running"; fi
}

reset() {
    local name
    down
    for name in $(all_names); do
        if [[ -d run/$name ]]; then
            rm -rf "run/${name:?}"
            say "deleted run/$name"
        fi
    done
}

status() {
    local profile name pid
    if ! profile=$(running_profile); then
        say "nothing is running; make cluster-up starts it"
        return
    fi
    say "profile $profile"
    for name in $(names_of "$profile"); do
        if pid=$(pid_of "$profile" "$name"); then
            printf '  %-10s pid %-8s http://%s\n' "$name" "$pid" "$(api_of "$profile" "$name")"
        else
            printf '  %-10s %-12s make node-up NODE=%s starts it\n' "$name" "not running" "$name"
        fi
    done
    need_binary
    "$BIN" cluster status --url "$(any_url "$profile")" --timeout 5
}

kill_one() {
    local name=${1:-} profile pid reply address tries
    [[ -n $name ]] || die "which one? For instance: make node-kill NODE=node2, or NODE=leader"
    if [[ $name == leader ]]; then
        need_binary
        profile=$(running_profile) || die "nothing is running; make cluster-up starts it"
        reply=$("$BIN" cluster status --json --timeout 5 --url "$(any_url "$profile")") ||
            die "who leads is not known; the reason is above"
        [[ $reply =~ \"leader\":\"([^\"]+)\" ]] || die "nobody leads at the moment; try again"
        name=${BASH_REMATCH[1]}
    fi
    profile=$(profile_of "$name")
    pid=$(pid_of "$profile" "$name") || die "$name is not running; make node-up NODE=$name starts it"
    kill -KILL "$pid"
    while is_running "$profile" "$name"; do sleep 0.05; done
    # A process gives its memory back before its listeners close.
    for address in $(listens_of "$profile" "$name"); do
        for ((tries = 0; tries < STOP_SECONDS * 20; tries++)); do
            port_in_use "$address" || break
            sleep 0.05
        done
    done
    rm -f "run/$name/pid"
    say "$name (pid $pid) killed; make node-up NODE=$name brings it back"
}

start_one() {
    local name=${1:-} profile running
    [[ -n $name ]] || die "which one? For instance: make node-up NODE=node2"
    profile=$(profile_of "$name")
    if running=$(running_profile) && [[ $running != "$profile" ]]; then
        die "$name belongs to the profile \"$profile\", but \"$running\" is running"
    fi
    need_binary
    if is_running "$profile" "$name"; then
        say "$name is running (pid $(pid_of "$profile" "$name"))"
    else
        start "$profile" "$name"
        say "$name started (pid $(<"run/$name/pid")), log in run/$name/log"
    fi
    wait_for "$profile" "$name" -- --ready --url "http://$(api_of "$profile" "$name")"
}

case ${1:-} in
    up) lock && up "${2:-}" ;;
    down) lock && down ;;
    reset) lock && reset ;;
    status) status ;;
    kill) lock && kill_one "${2:-}" ;;
    start) lock && start_one "${2:-}" ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
