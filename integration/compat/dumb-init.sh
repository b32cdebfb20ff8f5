# dumb-init as process 1 in a session of its own, which turns SIGTERM into SIGINT for its group.
packages='dumb-init'
command='["dumb-init", "--rewrite", "15:2", "--", "sh", "-c", "trap \"exit 0\" INT; while :; do sleep 0.1; done"]'
load() {
    same "$(cat /proc/1/comm)" dumb-init
    sh -c '(sleep 0.2 &) ; exit 0'
    sleep 0.5
    same "$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null)" ''
}
