# Keeps an enclave alive as long as its standard input stays open, then leaves nothing of it.
# Arguments: the enclave's directory, its tag (a part of the name of every cgroup made in it).
# The test process holds the other end of standard input, so that this also runs when it is killed.
dir=$1 tag=$2
unshare --mount --propagation private --pid --net --fork --kill-child -- bash -c '
    set -e
    # Process 1 of the namespace, seen from the host: /proc is still the host'\''s here.
    read -r host_pid _ </proc/self/stat
    # Shared, as on a machine under systemd, so that a mount which leaks out of a container shows.
    mount --make-rshared /
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/lock
    mount -t proc proc /proc
    # Engines write into these (keys, network state): they get a layer that goes with the enclave.
    mkdir "$1/layers"
    mount -t tmpfs -o mode=755 tmpfs "$1/layers"
    for top in etc var/lib; do
        layer=$1/layers/${top//\//-}
        mkdir -p "$layer/upper" "$layer/work"
        mount -t overlay -o "lowerdir=/$top,upperdir=$layer/upper,workdir=$layer/work" overlay "/$top"
    done
    rm -f /etc/cni/net.d/*
    ip link set lo up
    echo "$host_pid"
    # Bash reaps what is handed over to process 1.
    while read -r _; do :; done
' enclave "$dir"
for _ in $(seq 50); do
    left=$(find /sys/fs/cgroup -depth -type d -path "*$tag*" -exec rmdir {} + 2>&1) || true
    [ -z "$left" ] && break
    sleep 0.1
done
rm -rf --one-file-system "$dir"
