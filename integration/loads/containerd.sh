# Namespaces, content, images, leases through ctr, without starting a container; held out: events, a large
# blob, removal and garbage collection.
prepare() {
    put /etc/containerd/config.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
END
    mkdir -p "$ROOT/load/layout/blobs/sha256"
    (
        cd "$ROOT/load/layout"
        blob() { local sum; sum=$(sha256sum "$1" | cut -d' ' -f1) && mv "$1" "blobs/sha256/$sum" && echo "$sum"; }
        tar -cf layer -C "$ROOT/etc" passwd group
        size=$(stat -c %s layer) layer=$(blob layer)
        echo "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" >config
        config_size=$(stat -c %s config) config=$(blob config)
        echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$config\",\"size\":$config_size},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:$layer\",\"size\":$size}]}" >manifest
        manifest_size=$(stat -c %s manifest) manifest=$(blob manifest)
        echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
        echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$manifest\",\"size\":$manifest_size,\"annotations\":{\"io.containerd.image.name\":\"localhost/small:1\"}}]}" >index.json
        tar -cf ../image.tar .
    )
}
ctr() { inside ctr "$@"; }
ready() { ctr version; }
recorded() {
    ctr namespaces create one
    ctr -n one images import --no-unpack /load/image.tar
    ctr -n one images ls | grep -c localhost/small
    ctr -n one content ls >/dev/null
    ctr -n one leases create >/dev/null
    ctr -n one snapshots ls >/dev/null
    ctr plugins ls >/dev/null
    ctr -n one images tag localhost/small:1 localhost/small:2
    ctr -n one images export /tmp/out.tar localhost/small:1
    ctr -n one images rm localhost/small:1 localhost/small:2
}
held_out() {
    local number
    timeout 4 nsenter --target "$PID" --net -- chroot "$ROOT" ctr events >/dev/null &
    ctr namespaces create two
    ctr namespaces label two a=b
    head -c 5000000 /dev/urandom >"$ROOT/tmp/blob"
    inside ctr -n two content ingest --expected-size 5000000 blob </dev/null 2>/dev/null || true
    for number in 1 2 3; do
        ctr -n two images import --no-unpack /load/image.tar >/dev/null
        ctr -n two images rm --sync localhost/small:1
    done
    ctr pprof goroutines >/dev/null 2>&1 || true
    ctr -n two containers ls >/dev/null
    ctr namespaces rm two
    wait || true
}
