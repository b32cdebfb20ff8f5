# What the scripts of the images share: for the shells of Debian and of busybox, at build and in a container.
# Each NAME.sh says:
#   packages       Debian packages to install, besides what Debian calls required, and apt
#   heavy          too large to be built and run by `make test`; `make compat` has all
#   command, user  the image's Cmd (JSON) and User
#   before         before the packages are installed, in the image
#   build          afterwards: what a Dockerfile would add
#   ready          in the container: whether the server answers
#   load           in the container: its work, which must succeed
#   stop           in the container: how the server is stopped, where SIGTERM is not the way
# A case other than `load` is a function of that name; NAME_outside runs on the host after it.

# A file, from standard input.
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
}
# Compressible text of so many bytes.
text() { yes 'lorem ipsum dolor sit amet' | head -c "$1"; }
# Asks until it is so, 20 seconds at most.
until_so() {
    left=200
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || { "$@"; return; }
        sleep 0.1
    done
}
# What must fail, with a word of what it says.
denied() {
    word=$1
    shift
    if said=$("$@" 2>&1); then
        echo "$*: is not denied" >&2
        return 1
    fi
    case $said in
    *"$word"*) ;;
    *)
        echo "$*: fails with: $said" >&2
        return 1
        ;;
    esac
}
same() { [ "$1" = "$2" ] || { echo "is: $1" >&2; echo "should be: $2" >&2; return 1; }; }
# The user ids of the processes with a name, in order, each once.
owners() {
    for status in /proc/[0-9]*/status; do
        awk -v n="$1" '/^Name:/ { is = $2 == n } /^Uid:/ && is { print $3 }' "$status" 2>/dev/null || true
    done | sort -nu | tr '\n' ' '
}
before() { :; }
build() { :; }
ready() { :; }
