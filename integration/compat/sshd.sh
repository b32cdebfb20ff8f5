# Logins with a key as root and as a user, through PAM; a command, a stream, SFTP, scp.
packages='openssh-server openssh-client openssh-sftp-server'
command='["sh", "-c", "mkdir /run/sshd && exec /usr/sbin/sshd -D -e"]'
build() {
    mkdir -p /root/.ssh
    useradd -m -s /bin/bash -u 1000 user
    ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
    cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
    mkdir -m 700 /home/user/.ssh
    cp /root/.ssh/id_ed25519.pub /home/user/.ssh/authorized_keys
    chown -R user:user /home/user/.ssh
    printf 'StrictHostKeyChecking no\nLogLevel ERROR\nBatchMode yes\n' | put /root/.ssh/config
}
ready() { ssh 127.0.0.1 true; }
load() {
    same "$(ssh 127.0.0.1 id -u)" 0
    same "$(ssh user@127.0.0.1 'id -u; pwd')" "1000
/home/user"
    text 1000000 >/tmp/text
    ssh user@127.0.0.1 cat </tmp/text | cmp - /tmp/text
    scp -q /tmp/text user@127.0.0.1:copy
    printf 'get copy /tmp/back\nmkdir d\nrename copy d/copy\n' | sftp -q -b - user@127.0.0.1 >/dev/null
    cmp /tmp/text /tmp/back
    same "$(stat -c %u:%g /home/user/d/copy)" 1000:1000
    ssh user@127.0.0.1 'nohup sleep 0.1 >/dev/null 2>&1 & wait'
}
# With a terminal, as people log in.
terminal() {
    same "$(ssh -tt user@127.0.0.1 'test -t 0 && stat -c %U "$(tty)"' </dev/null | tr -d '\r')" user
}
