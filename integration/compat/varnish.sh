# A cache that compiles its configuration with gcc at the start and keeps its log in shared memory.
packages='varnish lighttpd curl'
heavy=yes
command='["varnishd", "-F", "-a", "127.0.0.1:8080", "-f", "/etc/varnish/default.vcl", "-s", "malloc,32m"]'
build() {
    printf 'vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "80"; }\nsub vcl_deliver { set resp.http.hits = obj.hits; }\n' |
        put /etc/varnish/default.vcl
    text 100000 | put /var/www/html/file.txt
}
ready() { varnishadm ping && curl -s -o /dev/null http://127.0.0.1:8080/; }
load() {
    lighttpd -f /etc/lighttpd/lighttpd.conf
    until_so curl -fs http://127.0.0.1/file.txt
    curl -fsS http://127.0.0.1:8080/file.txt | cmp - /var/www/html/file.txt
    same "$(curl -fsSI http://127.0.0.1:8080/file.txt | tr -d '\r' | awk '/^hits/ { print $2 }')" 1
    until_so sh -c 'varnishstat -1 -f MAIN.cache_hit | grep -q " [1-9]"'
    varnishadm vcl.load again /etc/varnish/default.vcl >/dev/null
    varnishadm vcl.use again >/dev/null
    curl -fsS -o /dev/null http://127.0.0.1:8080/file.txt
}
