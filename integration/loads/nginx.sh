# Static files, keep-alive, gzip, a proxied location, ranges, request bodies on disk, reload; held out:
# WebDAV, a proxy cache, directory listings, a limited rate, basic authentication.
prepare() {
    put /etc/nginx/nginx.conf <<'END'
user www-data;
worker_processes 2;
pid /run/nginx.pid;
events { worker_connections 256; }
http {
    include mime.types;
    sendfile on;
    tcp_nopush on;
    gzip on;
    gzip_types text/plain;
    access_log /var/log/nginx/access.log;
    open_file_cache max=100;
    proxy_cache_path /var/cache/nginx keys_zone=kept:1m;
    server {
        listen 80;
        listen [::]:80;
        root /srv;
        client_max_body_size 4m;
        location /proxied/ { proxy_pass http://127.0.0.1:8081/; }
        location /kept/ { proxy_pass http://127.0.0.1:8081/; proxy_cache kept; proxy_cache_valid 200 1m; }
        location /list/ { alias /srv/list/; autoindex on; }
        location /slow/ { alias /srv/; limit_rate 400k; }
        location /secret/ { alias /srv/; auth_basic secret; auth_basic_user_file /etc/nginx/users; }
        location /dav/ { root /srv; dav_methods PUT DELETE MKCOL COPY MOVE; create_full_put_path on; }
    }
    server { listen 8081; root /srv; location /post { client_body_in_file_only clean; return 204; } }
}
END
    mkdir -p "$ROOT"/srv/{dav,list} "$ROOT"/var/log/nginx "$ROOT"/var/lib/nginx "$ROOT"/var/cache/nginx
    chown 33:33 "$ROOT"/srv/dav
    text 400 | put /srv/index.html
    text 100000 | put /srv/text.txt
    cp "$ROOT/srv/text.txt" "$ROOT/srv/list/"
    head -c 1500000 /dev/urandom | put /srv/binary
    # Password "pass", as openssl passwd -apr1 would write it.
    echo 'user:{PLAIN}pass' | put /etc/nginx/users
}
ready() { client curl -fsS http://127.0.0.1/; }
recorded() {
    client wrk -t1 -c8 -d1s http://127.0.0.1:80/
    client ab -q -n 200 -c 8 http://127.0.0.1/text.txt
    client ab -q -k -n 200 -c 8 -H 'Accept-Encoding: gzip' http://127.0.0.1/text.txt
    client curl -fsS --compressed -o /dev/null http://127.0.0.1/text.txt
    client curl -fsS -r 100-5000 -o /dev/null 'http://[::1]/binary'
    client ab -q -n 50 -c 4 http://127.0.0.1/proxied/binary
    status_is 404 http://127.0.0.1/nothing
    # Answered with 405 after the body has been read and passed on.
    text 300000 | client curl -sS -o /dev/null --data-binary @- http://127.0.0.1/proxied/text.txt
    signal HUP
    sleep 0.5
    client ab -q -n 100 -c 4 http://127.0.0.1/
    signal USR1
    sleep 0.3
    client curl -fsS -o /dev/null http://127.0.0.1/
}
held_out() {
    text 200000 >"$CLIENTS/tmp/body"
    status_is 201 -T /tmp/body http://127.0.0.1/dav/new/file
    status_is 204 -T /tmp/body http://127.0.0.1/dav/new/file
    status_is 201 -X MKCOL http://127.0.0.1/dav/dir/
    status_is 204 -X COPY -H 'Destination: /dav/dir/copy' http://127.0.0.1/dav/new/file
    status_is 204 -X MOVE -H 'Destination: /dav/dir/moved' http://127.0.0.1/dav/dir/copy
    status_is 204 -X DELETE http://127.0.0.1/dav/dir/
    client ab -q -n 100 -c 4 http://127.0.0.1/kept/text.txt
    client curl -fsS http://127.0.0.1/list/ | grep -c text.txt
    client curl -fsS -o /dev/null http://127.0.0.1/slow/text.txt
    status_is 401 http://127.0.0.1/secret/text.txt
    status_is 200 -u user:pass http://127.0.0.1/secret/text.txt
    signal HUP
    sleep 0.5
    client wrk -t1 -c20 -d1s http://127.0.0.1:80/text.txt
    signal QUIT
}
