# A tree of 1,000 files with owners, links, times, a sparse file and extended attributes, there and back.
packages='xz-utils zstd bzip2 attr'
load() {
    mkdir -p /tmp/tree && cd /tmp/tree
    for d in $(seq 20); do
        mkdir $d
        for f in $(seq 50); do echo "$d $f" >$d/$f; done
        chown -R "$d:$((d + 1000))" $d
        ln $d/1 $d/hard
        ln -s 2 $d/soft
    done
    chmod 4755 1/1
    chmod 2755 2/1
    truncate -s 10M sparse
    setfattr -n user.kept -v yes 3/1
    chown 65533:65533 4/1
    list() { find . -printf '%P %y %m %U %G %s %n %l %Ts\n' | sort; }
    list >/tmp/before
    for how in --gzip --zstd --xz; do
        tar --create --sparse --xattrs --numeric-owner $how --file /tmp/a.tar .
        rm -rf /tmp/copy && mkdir /tmp/copy
        tar --extract --xattrs --numeric-owner --preserve-permissions --same-owner --file /tmp/a.tar --directory /tmp/copy
        (cd /tmp/copy && list | sed "s/^ d 755 0 0 .*//" >/tmp/after)
        sed "s/^ d 755 0 0 .*//" /tmp/before | cmp - /tmp/after
    done
    same "$(getfattr --only-values -n user.kept /tmp/copy/3/1)" yes
    rm -rf /tmp/copy
}
