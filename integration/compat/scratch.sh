# One static file in an image without any directory: every mount point has to be made.
packages='busybox-static'
from=scratch
command='["/busybox", "sleep", "1000"]'
build() {
    mkdir /image
    cp /bin/busybox /image/busybox
}
kills=yes
load() {
    same "$(id -u)" 0
    for place in /proc /sys /dev /dev/shm /dev/pts /dev/mqueue; do
        grep -q " $place " /proc/self/mountinfo
    done
    head -c 10 /dev/urandom >/dev/null
    echo x >/new
    same "$(stat -c %u:%a /new)" 0:644
}
