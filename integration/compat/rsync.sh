# A daemon that serves a module, chrooted as nobody; a push and a pull with owners, links and devices left out.
packages='rsync'
command='["rsync", "--daemon", "--no-detach"]'
build() {
    printf '[in]\npath = /srv/in\nread only = no\nuid = root\ngid = root\nuse chroot = yes\n[out]\npath = /srv/out\nuid = nobody\ngid = nogroup\n' |
        put /etc/rsyncd.conf
    mkdir -p /srv/in /srv/out
    cp -a /etc /srv/out/etc
}
ready() { rsync rsync://127.0.0.1/ | grep -q out; }
load() {
    mkdir /tmp/tree
    for i in 1 2 3 4 5; do text 10000 >/tmp/tree/$i; chown "$i:$((i + 100))" /tmp/tree/$i; done
    ln /tmp/tree/1 /tmp/tree/hard
    ln -s 2 /tmp/tree/soft
    rsync -aH --numeric-ids /tmp/tree/ rsync://127.0.0.1/in/
    same "$(cd /srv/in && stat -c '%n %u %g %h %F' *)" "$(cd /tmp/tree && stat -c '%n %u %g %h %F' *)"
    echo more >>/tmp/tree/3
    rsync -aH --numeric-ids --stats /tmp/tree/ rsync://127.0.0.1/in/ | grep -q 'regular files transferred: 1'
    # Nobody cannot read /etc/shadow.
    rsync -a rsync://127.0.0.1/out/etc/ /tmp/etc/ 2>/dev/null && return 1
    cmp /etc/passwd /tmp/etc/passwd
    [ ! -e /tmp/etc/shadow ]
}
