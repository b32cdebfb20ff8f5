# A balanced back end, health checks, the control socket, a reload by signal; workers as haproxy, chrooted.
packages='haproxy curl socat'
command='["sh", "-c", "mkdir /run/haproxy && exec haproxy -W -db -f /etc/haproxy/haproxy.cfg"]'
build() {
    put /etc/haproxy/haproxy.cfg <<'END'
global
    user haproxy
    group haproxy
    chroot /var/lib/haproxy
    stats socket /run/haproxy/admin.sock mode 660 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend front
    bind 127.0.0.1:80
    default_backend back
backend back
    balance roundrobin
    option httpchk
    server one 127.0.0.1:8081 check inter 200
    server two 127.0.0.1:8082 check inter 200
frontend one
    bind 127.0.0.1:8081
    http-request return status 200 content-type text/plain string "one\n"
frontend two
    bind 127.0.0.1:8082
    http-request return status 200 content-type text/plain string "two\n"
END
    mkdir -p /var/lib/haproxy
}
ready() { curl -fs http://127.0.0.1/; }
load() {
    same "$(seq 20 | xargs -n 1 sh -c 'curl -fsS http://127.0.0.1/' | sort | uniq -c | awk '{ print $2, $1 }' | xargs)" 'one 10 two 10'
    echo 'show stat' | socat - UNIX-CONNECT:/run/haproxy/admin.sock | grep -q '^back,one,.*UP'
    echo 'disable server back/two' | socat - UNIX-CONNECT:/run/haproxy/admin.sock
    same "$(seq 10 | xargs -n 1 sh -c 'curl -fsS http://127.0.0.1/' | sort -u)" one
    kill -s USR2 1
    until_so ready
    sleep 0.5
    user=$(id -u haproxy)
    same "$(owners haproxy)" "0 $user "
}
