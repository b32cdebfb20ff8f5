# Runs one step of one program's load, in the enclave: driver.sh PROGRAM STEP. The steps are functions in
# PROGRAM.sh:
#   prepare    before the container is made: configuration and data, written below $ROOT
#   beside     from before the container's first instruction to its end: servers it talks to
#   ready      succeeds when the server answers
#   recorded   the load that profiles may be recorded from
#   held_out   another load, for checks only
# ROOT is the container's root file system, CLIENTS that of the clients, PID the container's first
# process. Whatever fails ends the step.
set -euo pipefail
here=$(dirname "$0")
program=$1 step=$2

# A client, in the container's network.
client() { nsenter --target "$PID" --net -- chroot "$CLIENTS" "$@"; }
# A program of the same root file system, not confined.
inside() { nsenter --target "$PID" --net -- chroot "$ROOT" "$@"; }
# A signal to the server.
signal() { kill -s "$1" "$PID"; }
# A file below $ROOT, from standard input.
put() {
    mkdir -p "$(dirname "$ROOT$1")"
    cat >"$ROOT$1"
}
# Compressible text of about so many bytes.
text() { seq -s ' lorem ipsum ' 1000000 | head -c "$1" || true; }
# Asks until it is so; a minute at most, because strace makes everything slow.
until_so() {
    local end=$((SECONDS + 60))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { "$@"; return; }
        sleep 0.1
    done
}
# An HTTP status is the one that is expected.
status_is() {
    local wanted=$1 got
    shift
    got=$(client curl -s -o /dev/null -w '%{http_code}' "$@")
    [ "$got" = "$wanted" ] || { echo "$*: HTTP $got instead of $wanted" >&2; return 1; }
}

prepare() { :; }
beside() { :; }
ready() { :; }
# shellcheck source=/dev/null
. "$here/$program.sh"

case $step in
ready) until_so ready ;;
*) "$step" ;;
esac
