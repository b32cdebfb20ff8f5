# One static file in an image without any directory: every mount point has to be made.
packages='busybox-static'
from=scratch
command='["/busybox", "sleep", "1000"]'
build() {
    mkdir /image
    cp /bin/busybox /image/busybox
}
kills=yes
