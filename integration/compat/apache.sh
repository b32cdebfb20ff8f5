# Static files, a listing, CGI, passwords, a graceful restart; workers as www-data.
packages='apache2 curl'
command='["sh", "-c", "mkdir -p /run/apache2/socks && install -d -o www-data /run/lock/apache2 && . /etc/apache2/envvars && exec apache2 -DFOREGROUND"]'
build() {
    echo 'ServerName localhost' | put /etc/apache2/conf-enabled/name.conf
    a2enmod -q cgid
    put /usr/lib/cgi-bin/who <<'END'
#!/bin/sh
printf 'Content-type: text/plain\n\n'
id -un
END
    chmod 755 /usr/lib/cgi-bin/who
    mkdir -p /var/www/html/list /var/www/html/secret
    text 200000 >/var/www/html/list/file
    htpasswd -nbB user pass >/etc/apache2/users
    put /etc/apache2/conf-enabled/secret.conf <<'END'
<Location /secret>
    AuthType Basic
    AuthName secret
    AuthUserFile /etc/apache2/users
    Require valid-user
</Location>
END
}
ready() { curl -fs http://127.0.0.1/; }
load() {
    curl -fsS http://127.0.0.1/list/ | grep -q 'href="file"'
    curl -fsS http://127.0.0.1/list/file | cmp - /var/www/html/list/file
    same "$(curl -fsS http://127.0.0.1/cgi-bin/who)" www-data
    same "$(curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1/secret/)" 401
    curl -fsS -u user:pass http://127.0.0.1/secret/ >/dev/null
    ab -q -n 200 -c 10 http://127.0.0.1/list/file | grep -q 'Failed requests: *0$'
    apache2ctl graceful
    until_so ready
    same "$(owners apache2)" "0 33 "
}
