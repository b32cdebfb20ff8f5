# What single cases need: set-user-id programs, file capabilities, message queues, users.
packages='sudo iputils-ping libcap2-bin attr acl python3-minimal libpython3-stdlib util-linux netcat-openbsd'
command='["sleep", "1000"]'
kills=yes
build() {
    useradd -m -u 1000 -G adm user
    echo 'user ALL=(ALL) NOPASSWD: ALL' | put /etc/sudoers.d/user
    chmod 440 /etc/sudoers.d/user
    cp /usr/bin/nc.openbsd /usr/local/bin/low-nc
    setcap cap_net_bind_service=ep /usr/local/bin/low-nc
    install -m 6755 -o 1000 -g 1000 /usr/bin/id /usr/local/bin/id-as-user
    mkdir -p /data
    for id in 1 33 1000 65534; do
        echo $id >/data/$id
        chown $id:$id /data/$id
    done
    chmod 600 /data/*
    setfacl -m u:1000:r /data/33
    useradd -m -u 60000 high
}
# setpriv keeps its capabilities until it executes something.
as_user() { setpriv --reuid=1000 --regid=1000 --init-groups sh -c 'exec "$@"' sh "$@"; }
# Files of users 1 to 65534 keep their owners, modes and access lists; root changes them
owners_in_image() {
    same "$(stat -c '%u:%g' /data/* | xargs)" '1:1 1000:1000 33:33 65534:65534'
    same "$(stat -c %U:%G /etc/shadow /home/user | xargs)" 'root:shadow user:user'
    chown 12345:54321 /data/1
    same "$(stat -c %u:%g /data/1)" 12345:54321
    as_user cat /data/33 >/dev/null
    denied 'Permission denied' as_user cat /data/1
    su high -s /bin/sh -c 'echo x >~/x; stat -c %u ~/x' | grep -qx 60000
}
# sudo by a user, and a program that is set-id to another user
setuid() {
    same "$(as_user sudo -n id -u)" 0
    same "$(as_user /usr/local/bin/id-as-user -u)" 1000
    same "$(setpriv --reuid=33 --regid=33 --clear-groups /usr/local/bin/id-as-user -u)" 1000
    same "$(setpriv --reuid=33 --regid=33 --clear-groups /usr/local/bin/id-as-user -g)" 1000
}
# The same give nothing
setuid_ignored() {
    denied 'no new privileges' as_user sudo -n id -u
    same "$(setpriv --reuid=33 --regid=33 --clear-groups /usr/local/bin/id-as-user -u)" 33
    # What root gives up itself works as ever.
    same "$(su user -c 'id -u')" 1000
    same "$(sudo -n -u user id -u)" 1000
}
listens() { as_user "$1" -l 127.0.0.1 80 </dev/null & sleep 0.3; echo hello | nc -N 127.0.0.1 80; wait $!; }
# A server below port 1024 as a user, by its file's capability
capabilities() {
    same "$(getcap /usr/local/bin/low-nc)" '/usr/local/bin/low-nc cap_net_bind_service=ep'
    denied 'Permission denied' listens /usr/bin/nc.openbsd
    same "$(listens /usr/local/bin/low-nc)" hello
}
# The same gives nothing; capabilities of files are there, and root can set them
capabilities_ignored() {
    same "$(getcap /usr/local/bin/low-nc)" '/usr/local/bin/low-nc cap_net_bind_service=ep'
    denied 'Permission denied' as_user /usr/local/bin/low-nc -l 127.0.0.1 80
    cp /bin/true /tmp/capable
    setcap cap_net_bind_service=ep /tmp/capable
    same "$(getcap /tmp/capable)" '/tmp/capable cap_net_bind_service=ep'
}
# By the capability of its file
ping_loopback() { ping -c 1 -W 2 127.0.0.1 | grep -q '1 received'; }
ping_refused() { denied 'not permitted' ping -c 1 -W 2 127.0.0.1; }
# With a tmpfs on /tmp
read_only() {
    for place in /x /etc/x /data/x /usr/x; do
        denied 'Read-only file system' touch $place
    done
    echo x >/tmp/x
    echo x >/dev/shm/x
    same "$(cat /data/1)" 1
}
# Owners, its size, noexec, a FIFO
memory() {
    same "$(stat -f -c %T /scratch)" tmpfs
    same "$(stat -c %a /scratch)" 1777
    as_user sh -c 'echo x >/scratch/mine'
    chown 33:33 /scratch/mine
    same "$(stat -c %u:%g /scratch/mine)" 33:33
    denied 'No space left' dd if=/dev/zero of=/scratch/big bs=1M count=20
    rm /scratch/big
    mknod /scratch/fifo p
    denied 'Permission denied' sh -c 'cp /bin/true /scratch/true && /scratch/true'
}
# Mapped by two processes of a user; segments, semaphores and queues
shared_memory() {
    same "$(stat -f -c %T /dev/shm)" tmpfs
    same "$(stat -c %a:%u /dev/shm)" 1777:0
    as_user python3 -c 'import mmap, os
f = os.open("/dev/shm/a", os.O_CREAT | os.O_RDWR, 0o600); os.ftruncate(f, 1 << 20); m = mmap.mmap(f, 1 << 20)
if os.fork() == 0: m[0:2] = b"hi"; os._exit(0)
os.wait(); assert m[0:2] == b"hi"; assert os.stat("/dev/shm/a").st_uid == 1000'
    # System V too.
    ipcmk -M 1000000 -S 3 -Q >/dev/null
    same "$(ipcs -m | grep -c 1000000)" 1
}
# A user's POSIX queue, its owner, its removal
queues() {
    same "$(stat -f -c %T /dev/mqueue)" mqueue
    as_user python3 -c 'import ctypes, os
c = ctypes.CDLL(None, use_errno=True); q = c.mq_open(b"/a", os.O_CREAT | os.O_RDWR, 0o600, None)
assert q >= 0, os.strerror(ctypes.get_errno()); assert c.mq_send(q, b"hello", 5, 1) == 0
b = ctypes.create_string_buffer(8192); assert c.mq_receive(q, b, 8192, None) == 5 and b.raw[:5] == b"hello"'
    same "$(stat -c %u /dev/mqueue/a)" 1000
    chown 33 /dev/mqueue/a
    rm /dev/mqueue/a
}
volume_before() {
    for id in 0 33 1000 65534; do
        echo $id >$id
        chown $id:$id $id
        chmod 600 $id
    done
    mkdir -m 2775 shared
    chown 1000:33 shared
}
# Read and written by root and users; the owners on the host are those that runc gives
volume() {
    cd /volume
    same "$(stat -c '%n %u:%g' * | xargs)" '0 0:0 1000 1000:1000 33 33:33 65534 65534:65534 shared 1000:33'
    same "$(as_user cat 1000)" 1000
    denied 'Permission denied' as_user cat 0
    echo root >by-root
    as_user sh -c 'echo user >shared/by-user'
    su high -s /bin/sh -c 'echo x >/tmp/high' && cp -p /tmp/high by-high
    chown 7:8 33
    chmod 4711 65534
    mkdir deep && touch deep/file && mv deep/file moved && rmdir deep
    ln 0 hard
}
volume_after() {
    same "$(stat -c '%n %u:%g %a' by-root shared/by-user by-high 33 65534 moved hard | xargs)" \
        'by-root 0:0 644 shared/by-user 1000:33 644 by-high 60000:60000 644 33 7:8 600 65534 65534:65534 4711 moved 0:0 644 hard 0:0 600'
}
host_path_before() {
    echo kept >file
    chmod 644 file
    echo secret >secret
    chmod 600 secret
    chown 1000 secret
}
# Read by its owners, not to be written, not to be mounted otherwise
host_path() {
    cd /volume
    same "$(cat file secret | xargs)" 'kept secret'
    same "$(as_user cat secret)" secret
    denied 'Read-only file system' sh -c 'echo x >file'
    denied 'Read-only file system' rm file
    denied 'Read-only file system' chown 1 file
    denied '' mount -o remount,rw /volume
}
host_path_after() { same "$(cat file)" kept; same "$(stat -c %u file)" 0; }
# As another user than the image's
other_user() {
    same "$(id -u)" 1000
    same "$(cat /data/1000)" 1000
    denied 'Permission denied' cat /data/1
}
# Sysctls closed, devices open, a terminal of one's own
hosts() {
    # Cgroups, sysctls and devices as they should be.
    same "$(cat /proc/sys/kernel/hostname)" "$(hostname)"
    denied 'Read-only file system' sh -c 'echo 1 >/proc/sys/kernel/panic'
    head -c 10 /dev/urandom >/dev/null
    echo x >/dev/null
    denied 'No space' dd if=/dev/zero of=/dev/full bs=1 count=1
    exec 3<>/dev/ptmx
    script -qc 'stat -c %U $(tty)' /dev/null </dev/null | tr -d '\r' | grep -qx root
}
# A file that is given to user 2,147,483,648
ids() {
    touch /tmp/far
    chown 2147483648:2147483648 /tmp/far
    same "$(stat -c %u:%g /tmp/far)" 2147483648:2147483648
}
# The same is refused, the last id there is is not
ids_bounded() {
    touch /tmp/far
    denied 'Invalid argument' chown 2147483648:2147483648 /tmp/far
    chown 65535:65535 /tmp/far
    same "$(stat -c %u:%g /tmp/far)" 65535:65535
}
