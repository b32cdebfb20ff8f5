# FastCGI workers as www-data behind nginx, sessions in files, opcache in shared memory; the command line.
packages='php8.2-fpm php8.2-cli nginx-light curl'
heavy=yes
command='["sh", "-c", "mkdir /run/php && exec php-fpm8.2 --nodaemonize"]'
build() {
    put /etc/nginx/sites-enabled/default <<'END'
server {
    listen 80;
    root /var/www/html;
    location ~ \.php$ { include snippets/fastcgi-php.conf; fastcgi_pass unix:/run/php/php8.2-fpm.sock; }
}
END
    cat >/var/www/html/index.php <<'END'
<?php session_start(); $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1; file_put_contents('/tmp/by-php', 'x');
echo json_encode(['n' => $_SESSION['n'], 'user' => trim(`id -un`), 'opcache' => opcache_get_status() !== false]), "\n";
END
}
ready() { [ -S /run/php/php8.2-fpm.sock ]; }
load() {
    nginx
    until_so curl -fs http://127.0.0.1/index.php
    for n in 1 2 3; do
        same "$(curl -fsS -b /tmp/jar -c /tmp/jar http://127.0.0.1/index.php)" "{\"n\":$n,\"user\":\"www-data\",\"opcache\":true}"
    done
    same "$(stat -c %U /tmp/by-php)" www-data
    same "$(php -r 'echo array_sum(range(1, 100000)), " ", posix_getuid();')" '5000050000 0'
    seq 30 | xargs -P 6 -I{} curl -fsS -o /dev/null 'http://127.0.0.1/index.php?{}'
}
stop() { kill -s QUIT 1; }
