# Static files, compression, a listing, a CGI script; runs as www-data.
packages='lighttpd curl'
command='["lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"]'
build() {
    lighty-enable-mod cgi dir-listing deflate >/dev/null || true
    put /var/www/cgi-bin/who <<'END'
#!/bin/sh
printf 'Content-type: text/plain\r\n\r\n'
id -un
END
    chmod 755 /var/www/cgi-bin/who
    echo '$HTTP["url"] =~ "^/run/" { alias.url = ("/run/" => "/var/www/cgi-bin/"), cgi.assign = ("" => "") }' |
        put /etc/lighttpd/conf-enabled/90-run.conf
    echo 'server.modules += ("mod_alias")' | put /etc/lighttpd/conf-enabled/05-alias.conf
    text 100000 | put /var/www/html/file.txt
    echo hello | put /var/www/html/index.html
}
ready() { curl -fs http://127.0.0.1/; }
load() {
    same "$(curl -fsS http://127.0.0.1/)" hello
    curl -fsS --compressed http://127.0.0.1/file.txt | cmp - /var/www/html/file.txt
    same "$(curl -fsS http://127.0.0.1/run/who)" www-data
    seq 50 | xargs -P 10 -I{} curl -fsS -o /dev/null 'http://127.0.0.1/file.txt?{}'
    same "$(owners lighttpd)" "33 "
}
