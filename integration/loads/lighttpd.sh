# Static files, keep-alive, ranges, a list of a directory; held out: a proxy to itself, rewritten
# addresses, a graceful restart.
prepare() {
    put /etc/lighttpd/lighttpd.conf <<'END'
server.modules = ("mod_access", "mod_accesslog", "mod_alias", "mod_rewrite", "mod_proxy", "mod_indexfile", "mod_dirlisting", "mod_staticfile", "mod_expire", "mod_status")
server.document-root = "/srv"
server.port = 80
server.username = "www-data"
server.groupname = "www-data"
server.errorlog = "/var/log/lighttpd/error.log"
accesslog.filename = "/var/log/lighttpd/access.log"
server.upload-dirs = ("/var/cache/lighttpd")
index-file.names = ("index.html")
dir-listing.activate = "enable"
mimetype.assign = (".html" => "text/html", ".txt" => "text/plain")
status.status-url = "/status"
url.rewrite-once = ("^/old/(.*)" => "/$1")
$SERVER["socket"] == ":81" { proxy.server = ("" => (("host" => "127.0.0.1", "port" => 80))) }
END
    mkdir -p "$ROOT"/srv/dir "$ROOT"/var/log/lighttpd "$ROOT"/var/cache/lighttpd
    chown 33:33 "$ROOT"/var/log/lighttpd "$ROOT"/var/cache/lighttpd
    text 400 | put /srv/index.html
    text 100000 | put /srv/text.txt
    head -c 1500000 /dev/urandom | put /srv/binary
    cp "$ROOT"/srv/text.txt "$ROOT"/srv/dir
}
ready() { client curl -fsS http://127.0.0.1/; }
recorded() {
    client wrk -t1 -c8 -d1s http://127.0.0.1:80/
    client ab -q -k -n 200 -c 8 http://127.0.0.1/text.txt
    client ab -q -n 100 -c 4 http://127.0.0.1/binary
    client curl -fsS -r 100-5000 -o /dev/null http://127.0.0.1/binary
    client curl -fsS http://127.0.0.1/dir/ | grep -c text.txt
    status_is 404 http://127.0.0.1/nothing
    text 300000 | client curl -sS -o /dev/null --data-binary @- http://127.0.0.1/text.txt
    signal HUP
    sleep 0.3
    status_is 304 -H 'If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT' http://127.0.0.1/text.txt
}
held_out() {
    client ab -q -n 200 -c 8 http://127.0.0.1:81/binary
    client curl -fsS -o /dev/null http://127.0.0.1/old/text.txt
    client curl -fsS http://127.0.0.1/status | grep -ci uptime
    text 300000 | client curl -sS -o /dev/null --data-binary @- http://127.0.0.1:81/text.txt
    signal USR1
    sleep 1
    until_so ready
    client wrk -t1 -c20 -d1s http://127.0.0.1:80/text.txt
    signal INT
}
