# apt-get update, install, remove and purge from a repository on disk: accounts, owners, set-id files, triggers.
packages='gnupg'
carried='openssh-server sudo cron memcached nginx-light'
load() {
    # dpkg waits for the disk after every file otherwise.
    echo force-unsafe-io | put /etc/dpkg/dpkg.cfg.d/unsafe-io
    export DEBIAN_FRONTEND=noninteractive
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list
    apt-get -qq update
    apt-get -qq install --yes --no-install-recommends openssh-server sudo cron memcached nginx-light </dev/null >/tmp/log 2>&1 || {
        tail -n 30 /tmp/log
        return 1
    }
    sudo -n id -u | grep -qx 0
    nginx -t 2>/dev/null
    same "$(stat -c %U:%G:%a /usr/bin/sudo)" root:root:4755
    same "$(stat -c %G:%a /usr/bin/ssh-agent /usr/bin/crontab | xargs)" '_ssh:2755 crontab:2755'
    same "$(id -gn memcache)" memcache
    dpkg --audit
    same "$(dpkg --verify openssh-server sudo nginx-light | grep -v ^missing)" ''
    apt-get -qq purge --yes nginx-light nginx-common memcached >/dev/null 2>&1
    [ ! -e /etc/nginx/nginx.conf ]
}
