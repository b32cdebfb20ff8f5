# Static files, ranges, uploads, a proxy, fifty clients, a reload; workers as www-data.
packages='nginx-light curl'
command='["nginx", "-g", "daemon off;"]'
build() {
    put /etc/nginx/sites-enabled/default <<'END'
server {
    listen 80 default_server;
    root /var/www/html;
    location /proxied/ { proxy_pass http://127.0.0.1/; }
    location /upload { proxy_pass http://127.0.0.1/index.html; client_body_buffer_size 8k; proxy_method GET; }
}
END
    echo hello | put /var/www/html/index.html
    text 3000000 >/var/www/html/big
}
ready() { curl -fs http://127.0.0.1/; }
load() {
    same "$(curl -fsS http://127.0.0.1/proxied/index.html)" hello
    curl -fsS http://127.0.0.1/proxied/big | cmp - /var/www/html/big
    same "$(curl -fsS -r 100-199 http://127.0.0.1/big | wc -c)" 100
    text 500000 | same "$(curl -fsS --data-binary @- http://127.0.0.1/upload)" hello
    seq 50 | xargs -P 10 -n 1 sh -c 'curl -fsS http://127.0.0.1/big | wc -c' | sort -u >/tmp/sizes
    same "$(cat /tmp/sizes)" 3000000
    nginx -s reload
    until_so ready
    # Its master, and its workers.
    same "$(owners nginx)" "0 33 "
}
