# A web server in Go: threads, epoll, its own reload; a proxy to itself.
packages='caddy curl'
command='["caddy", "run", "--config", "/etc/caddy/Caddyfile"]'
build() {
    printf '{\n auto_https off\n}\nhttp://127.0.0.1:80 {\n root * /srv\n encode gzip\n file_server\n}\nhttp://127.0.0.1:81 {\n reverse_proxy 127.0.0.1:80\n}\n' |
        put /etc/caddy/Caddyfile
    text 500000 | put /srv/file.txt
}
ready() { curl -fs -o /dev/null http://127.0.0.1:81/file.txt; }
load() {
    curl -fsS --compressed http://127.0.0.1:81/file.txt | cmp - /srv/file.txt
    seq 60 | xargs -P 10 -I{} curl -fsS -o /dev/null 'http://127.0.0.1:81/file.txt?{}'
    caddy reload --config /etc/caddy/Caddyfile 2>/dev/null
    until_so ready
}
