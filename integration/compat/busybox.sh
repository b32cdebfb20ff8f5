# busybox init as process 1 in an image of busybox alone: syslogd, a web server, su.
packages='busybox-static'
from=scratch
command='["/sbin/init"]'
build() {
    mkdir -p /image/bin /image/sbin /image/etc /image/www /image/tmp /image/var/log
    cp /bin/busybox /image/bin/
    chroot /image /bin/busybox --install -s /bin
    ln -s ../bin/busybox /image/sbin/init
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >/image/etc/passwd
    printf 'root:x:0:\nnogroup:x:65534:\n' >/image/etc/group
    printf '::sysinit:/bin/touch /tmp/booted\n::respawn:/bin/syslogd -n\n::respawn:/bin/httpd -f -u nobody:nogroup -p 127.0.0.1:80 -h /www\n::shutdown:/bin/touch /tmp/ended\n' >/image/etc/inittab
    echo hello >/image/www/index.html
}
ready() { wget -q -O - http://127.0.0.1/; }
load() {
    same "$(wget -q -O - http://127.0.0.1/)" hello
    same "$(ps | awk '/http[d] -f/ { print $2 }')" nobody
    logger marked
    until_so grep -q marked /var/log/messages
    killall -9 httpd
    until_so ready
    [ -e /tmp/booted ]
    same "$(su -s /bin/sh nobody -c id | cut -d' ' -f1)" 'uid=65534(nobody)'
}
kills=yes
