# runsvdir as process 1 with two services, one as another user with a log; up, down, a restart.
packages='runit'
command='["runsvdir", "-P", "/service"]'
build() {
    mkdir -p /service/one/log /service/two /var/log/one
    printf '#!/bin/sh\nwhile :; do echo tick; sleep 0.1; done\n' >/service/one/run
    printf '#!/bin/sh\nexec chpst -u nobody svlogd /var/log/one\n' >/service/one/log/run
    printf '#!/bin/sh\nexec chpst -u www-data:www-data sleep 1000\n' >/service/two/run
    chmod 755 /service/*/run /service/one/log/run
    chown nobody /var/log/one
}
ready() { sv status /service/one /service/two | grep -c '^run' | grep -qx 2; }
load() {
    until_so grep -q tick /var/log/one/current
    same "$(stat -c %U /var/log/one/current)" nobody
    first=$(cat /service/two/supervise/pid)
    same "$(awk '/^Uid/ { print $2 }' "/proc/$first/status")" 33
    kill -9 "$first"
    restarted() { [ "$(cat /service/two/supervise/pid)" != "$first" ]; }
    until_so restarted
    sv down /service/two
    until_so sh -c 'sv status /service/two | grep -q ^down'
}
# It stops its services at SIGHUP.
stop() { kill -s HUP 1; }
