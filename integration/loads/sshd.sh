# Logins with a key that run a command, as root and as a user; held out: SFTP, forwarded
# ports, a wrong key, environment, rekeying.
prepare() {
    chroot "$CLIENTS" ssh-keygen -q -t ed25519 -N '' -f /tmp/key
    chroot "$CLIENTS" ssh-keygen -q -t ed25519 -N '' -f /tmp/wrong
    chroot "$CLIENTS" ssh-keygen -q -t ed25519 -N '' -f /tmp/host
    mkdir -p "$ROOT/run/sshd" "$ROOT/root/.ssh" "$ROOT/home/.ssh" "$ROOT/var/log"
    chmod 700 "$ROOT/root" "$ROOT/root/.ssh" "$ROOT/home" "$ROOT/home/.ssh"
    cp "$CLIENTS/tmp/host" "$ROOT/etc/ssh/host"
    cp "$CLIENTS/tmp/key.pub" "$ROOT/root/.ssh/authorized_keys"
    cp "$CLIENTS/tmp/key.pub" "$ROOT/home/.ssh/authorized_keys"
    chown -R 107:107 "$ROOT/home"
    touch "$ROOT/var/log/lastlog" "$ROOT/var/log/wtmp"
    # No terminal is asked for: that needs CAP_AUDIT_WRITE, which the built-in policy does not grant.
    put /etc/ssh/sshd_config <<'END'
HostKey /etc/ssh/host
UsePAM yes
PermitRootLogin prohibit-password
KbdInteractiveAuthentication no
AcceptEnv LANG GREETING
Subsystem sftp internal-sftp
END
}
login() {
    local who=$1
    shift
    client ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o BatchMode=yes -i /tmp/key "$@" "$who@127.0.0.1" "${command[@]}"
}
ready() { command=(true) && login root; }
recorded() {
    command=(id -un)
    [ "$(login root)" = root ]
    [ "$(login user)" = user ]
    command=(cat /etc/ssh/sshd_config)
    login user | grep -q AcceptEnv
    command=(cat)
    text 300000 | login user | cmp - <(text 300000)
}
held_out() {
    local number
    printf 'ls /etc\nget /etc/passwd /tmp/got\nput /tmp/key.pub /tmp/sent\nrm /tmp/sent\nmkdir /tmp/d\nrename /tmp/d /tmp/e\nrmdir /tmp/e\ndf /\n' >"$CLIENTS/tmp/batch"
    client sftp -q -b /tmp/batch -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -i /tmp/key user@127.0.0.1 >/dev/null
    command=(true)
    ! client ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes \
        -o IdentitiesOnly=yes -i /tmp/wrong user@127.0.0.1 true 2>/dev/null
    command=(cat)
    GREETING=hello text 2000000 | login user -o SendEnv=GREETING -o RekeyLimit=500K | cmp - <(text 2000000)
    # It ends with the server, after this step: who waits for this step's output must not wait for it.
    command=()
    login user -N -R 127.0.0.1:2222:127.0.0.1:22 -L 2223:127.0.0.1:22 >/dev/null 2>&1 &
    forwarded() { client python3 -c "import socket; assert socket.create_connection(('127.0.0.1', $1)).recv(4) == b'SSH-'"; }
    until_so forwarded 2222
    until_so forwarded 2223
    signal HUP
    sleep 0.5
    command=(true)
    until_so login root
    for number in 1 2 3; do login user -C; done
}
