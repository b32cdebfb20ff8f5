# A proxy with a cache on disk, before a web server; runs as proxy, logs by a helper.
packages='squid lighttpd curl'
command='["sh", "-c", "squid -z -N 2>/dev/null; exec squid -N"]'
build() {
    put /etc/squid/squid.conf <<'END'
http_port 127.0.0.1:3128
http_access allow localhost
http_access deny all
cache_dir ufs /var/spool/squid 50 16 16
cache_mem 8 MB
pinger_enable off
pid_filename /run/squid.pid
visible_hostname cache
shutdown_lifetime 1 second
logfile_rotate 0
acl here dst 127.0.0.0/8
END
    text 200000 | put /var/www/html/file.txt
}
ready() { curl -s -x http://127.0.0.1:3128 -o /dev/null http://127.0.0.1:1/; }
load() {
    lighttpd -f /etc/lighttpd/lighttpd.conf
    until_so curl -fs http://127.0.0.1/file.txt
    fetch() { curl -fsS -D /tmp/head -x http://127.0.0.1:3128 http://127.0.0.1/file.txt | cmp - /var/www/html/file.txt; }
    fetch
    grep -q 'X-Cache: MISS' /tmp/head
    fetch
    grep -q 'X-Cache: HIT' /tmp/head
    same "$(owners squid)" "13 "
    until_so grep -q 'TCP_.*HIT' /var/log/squid/access.log
    same "$(stat -c %U /var/log/squid/access.log)" proxy
}
stop() { kill "$(cat /run/squid.pid)"; }
