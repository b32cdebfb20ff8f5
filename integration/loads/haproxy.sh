# HTTP to two back ends with health checks, statistics, reload in master-worker mode; held out: TCP mode,
# compression, a stick table, a back end that is down.
prepare() {
    put /etc/haproxy/haproxy.cfg <<'END'
global
    log /dev/log local0
    user haproxy
    group haproxy
    nbthread 2
    hard-stop-after 1s
    stats socket /run/haproxy.sock mode 600 level admin
defaults
    mode http
    log global
    timeout connect 2s
    timeout client 5s
    timeout server 5s
frontend web
    bind :80
    bind [::]:80 v6only
    stats enable
    stats uri /stats
    compression algo gzip
    compression type text/plain
    stick-table type ip size 1k store http_req_rate(10s)
    http-request track-sc0 src
    default_backend files
backend files
    balance roundrobin
    option httpchk GET /
    server one 127.0.0.1:8001 check inter 200
    server two 127.0.0.1:8002 check inter 200
    server down 127.0.0.1:8009 check inter 200
listen raw
    mode tcp
    bind :81
    server one 127.0.0.1:8001 check inter 500
END
    mkdir -p "$CLIENTS/tmp/files"
    text 100000 >"$CLIENTS/tmp/files/text.txt"
}
beside() {
    client python3 -m http.server -d /tmp/files 8001 >/dev/null 2>&1 &
    client python3 -m http.server -d /tmp/files 8002 >/dev/null 2>&1
}
ready() { client curl -fsS http://127.0.0.1/text.txt; }
recorded() {
    client ab -q -n 300 -c 4 http://127.0.0.1/text.txt
    client ab -q -k -n 300 -c 4 'http://[::1]/text.txt'
    client curl -fsS http://127.0.0.1/stats | grep -c files
    signal USR2
    sleep 1.5
    until_so ready
    status_is 404 http://127.0.0.1/nothing
}
held_out() {
    client curl -fsS -o /dev/null --compressed http://127.0.0.1/text.txt
    client ab -q -n 200 -c 8 http://127.0.0.1:81/text.txt
    client wrk -t1 -c16 -d1s http://127.0.0.1:80/text.txt
    sleep 1
    signal USR2
    sleep 1.5
    until_so ready
}
