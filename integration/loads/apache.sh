# Static files, keep-alive, compression, a directory listing, a proxy to itself, a graceful restart; held
# out: WebDAV, passwords, rewritten addresses, status, a disk cache, server-side includes.
prepare() {
    local module
    # As a2enmod would; /etc/apache2/mods-available says nothing then.
    for module in mpm_event authz_core authz_host authz_user authn_core authn_file auth_basic dir mime \
            alias autoindex deflate filter env setenvif proxy proxy_http rewrite status dav dav_fs cache \
            cache_disk include reqtimeout negotiation; do
            echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"
    done | put /etc/apache2/mods-enabled/test.load
    put /etc/apache2/test.conf <<'END'
Include /etc/apache2/mods-enabled/test.load
ServerRoot /etc/apache2
ServerName localhost
PidFile /run/apache2.pid
User www-data
Group www-data
Listen 80
DocumentRoot /srv
ErrorLog /var/log/apache2/error.log
LogFormat "%h %t \"%r\" %>s %b" common
CustomLog /var/log/apache2/access.log common
TypesConfig /etc/mime.types
StartServers 1
ThreadsPerChild 8
MaxRequestWorkers 32
AddOutputFilterByType DEFLATE text/plain
AddType text/plain .txt
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
DavLockDB /var/cache/apache2/dav
<Directory /srv>
    Options +Indexes +Includes
    Require all granted
</Directory>
<Directory /srv/dav>
    Dav On
</Directory>
<Location /secret>
    AuthType Basic
    AuthName secret
    AuthUserFile /etc/apache2/users
    Require valid-user
</Location>
Alias /secret /srv
<Location /status>
    SetHandler server-status
</Location>
ProxyPass /proxied/ http://127.0.0.1/
ProxyPass /kept/ http://127.0.0.1/
CacheRoot /var/cache/apache2
CacheEnable disk /kept
RewriteEngine on
RewriteRule ^/old/(.*) /$1
END
    : | put /etc/mime.types
    # "pass", by htpasswd.
    chroot "$CLIENTS" htpasswd -nbB user pass | put /etc/apache2/users
    mkdir -p "$ROOT"/srv/{dav,dir} "$ROOT"/var/log/apache2 "$ROOT"/var/cache/apache2
    chown 33:33 "$ROOT"/srv/dav "$ROOT"/var/cache/apache2
    text 400 | put /srv/index.html
    text 100000 | put /srv/text.txt
    head -c 1500000 /dev/urandom | put /srv/binary
    cp "$ROOT/srv/text.txt" "$ROOT/srv/dir/"
    echo '<!--#echo var="DATE_LOCAL" --> <!--#include virtual="/dir/text.txt" -->' | put /srv/page.shtml
}
ready() { client curl -fsS http://127.0.0.1/; }
recorded() {
    client ab -q -n 300 -c 8 http://127.0.0.1/
    client ab -q -k -n 300 -c 8 -H 'Accept-Encoding: gzip' http://127.0.0.1/text.txt
    client ab -q -n 100 -c 4 http://127.0.0.1/proxied/binary
    client curl -fsS -r 100-5000 -o /dev/null http://127.0.0.1/binary
    client curl -fsS http://127.0.0.1/dir/ | grep -c text.txt
    status_is 404 http://127.0.0.1/nothing
    text 300000 | client curl -sS -o /dev/null --data-binary @- http://127.0.0.1/proxied/text.txt
    signal USR1
    sleep 1
    until_so ready
    client ab -q -n 100 -c 4 http://127.0.0.1/
}
held_out() {
    text 200000 >"$CLIENTS/tmp/body"
    status_is 201 -T /tmp/body http://127.0.0.1/dav/file
    status_is 201 -X MKCOL http://127.0.0.1/dav/dir/
    status_is 201 -X COPY -H 'Destination: http://127.0.0.1/dav/dir/copy' http://127.0.0.1/dav/file
    status_is 201 -X MOVE -H 'Destination: http://127.0.0.1/dav/dir/moved' http://127.0.0.1/dav/dir/copy
    status_is 207 -X PROPFIND -H 'Depth: 1' http://127.0.0.1/dav/
    status_is 204 -X DELETE http://127.0.0.1/dav/dir/
    status_is 401 http://127.0.0.1/secret/text.txt
    status_is 200 -u user:pass http://127.0.0.1/secret/text.txt
    client curl -fsS -o /dev/null http://127.0.0.1/old/text.txt
    client curl -fsS http://127.0.0.1/status | grep -c uptime
    client curl -fsS http://127.0.0.1/page.shtml | grep -c lorem
    client ab -q -n 50 -c 2 http://127.0.0.1/kept/text.txt
    signal HUP
    sleep 1
    until_so ready
    client wrk -t1 -c20 -d1s http://127.0.0.1:80/text.txt
}
