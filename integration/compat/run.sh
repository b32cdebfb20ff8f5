# Runs a step of an image's script in a container: run.sh NAME STEP.
set -eu
here=$(dirname "$0")
. "$here/lib.sh"
. "$here/$1.sh"
case $2 in
ready) until_so ready ;;
*)
    "$2"
    echo "DONE $1 $2"
    ;;
esac
