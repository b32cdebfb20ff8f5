# Debian's old init as process 1, with /etc/inittab: a respawned service and a change of run level.
packages='sysvinit-core'
command='["/sbin/init"]'
build() {
    put /etc/inittab <<'END'
id:2:initdefault:
si::sysinit:/bin/touch /run/booted
on:23:respawn:/bin/sleep 1000
l3:3:once:/bin/touch /run/three
END
}
ready() { [ -e /run/booted ] && pidof sleep; }
load() {
    same "$(cat /proc/1/comm)" init
    first=$(pidof sleep)
    kill -9 "$first"
    restarted() { now=$(pidof sleep) && [ "$now" != "$first" ]; }
    until_so restarted
    telinit 3
    until_so test -e /run/three
}
# Nothing ends it but the end of its namespace: it does not leave at a signal.
kills=yes
