# tini as process 1: orphans are reaped, signals are passed on, the exit status is the program's.
packages='tini'
command='["tini", "--", "sh", "-c", "trap \"exit 0\" TERM; while :; do sleep 0.1; done"]'
load() {
    same "$(cat /proc/1/comm)" tini
    sh -c '(sleep 0.2 &) ; exit 0'
    sleep 0.5
    same "$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null)" ''
}
