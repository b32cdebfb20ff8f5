# s6-svscan as process 1: a supervised service as another user, its readiness, a restart.
packages='s6'
command='["s6-svscan", "/service"]'
build() {
    mkdir -p /service/one
    printf '#!/bin/sh\nexec s6-setuidgid www-data sh -c "echo >&3; exec sleep 1000"\n' >/service/one/run
    echo 3 >/service/one/notification-fd
    chmod 755 /service/one/run
}
ready() { s6-svok /service/one && s6-svwait -t 5000 -U /service/one; }
load() {
    s6-svstat /service/one | grep -q '^up.*ready'
    first=$(s6-svstat -o pid /service/one)
    same "$(awk '/^Uid/ { print $2 }' "/proc/$first/status")" 33
    s6-svc -wR -T 5000 -r /service/one
    [ "$(s6-svstat -o pid /service/one)" != "$first" ]
    s6-svc -wD -T 5000 -d /service/one
}
stop() { s6-svscanctl -t /service; }
