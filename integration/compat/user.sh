# The image's user is 1000, by number: files of others are closed to it, it has no capabilities.
packages='acl python3-minimal'
command='["sleep", "1000"]'
user=1000:1000
kills=yes
build() {
    useradd -m -u 1000 user
    mkdir -p /data
    for id in 1 33 1000; do
        echo $id >/data/$id
        chown $id:$id /data/$id
    done
    chmod 600 /data/*
    setfacl -m u:1000:r /data/33
}
load() {
    same "$(id -u):$(id -g)" 1000:1000
    [ ! -w /etc ]
    [ -w /tmp ]
    denied 'Permission denied' cat /data/1
    same "$(cat /data/1000 /data/33 | xargs)" '1000 33'
    echo mine >/tmp/mine
    same "$(stat -c %u:%g /tmp/mine)" 1000:1000
    denied 'not permitted' chown 1 /tmp/mine
    same "$(awk '/^CapEff/ { print $2 }' /proc/self/status)" 0000000000000000
}
