# A local user logs in through PAM, is chrooted, stores, fetches and lists.
packages='vsftpd curl'
command='["sh", "-c", "mkdir -p /run/vsftpd/empty && vsftpd /etc/vsftpd.conf & wait"]'
kills=yes
build() {
    useradd -m -u 1000 -s /bin/bash user
    echo user:pass | chpasswd
    put /etc/vsftpd.conf <<'END'
listen=YES
background=NO
listen_address=127.0.0.1
anonymous_enable=NO
local_enable=YES
write_enable=YES
chroot_local_user=YES
allow_writeable_chroot=YES
pam_service_name=vsftpd
secure_chroot_dir=/var/run/vsftpd/empty
seccomp_sandbox=YES
END
}
ready() { curl -fs -u user:pass ftp://127.0.0.1/; }
load() {
    text 300000 >/tmp/text
    curl -sS -u user:pass -T /tmp/text ftp://127.0.0.1/up
    curl -sS -u user:pass ftp://127.0.0.1/up | cmp - /tmp/text
    curl -sS -u user:pass ftp://127.0.0.1/ | grep -q ' up$'
    same "$(stat -c %u:%g /home/user/up)" 1000:1000
    denied '530' curl -sS -u user:wrong ftp://127.0.0.1/
}
