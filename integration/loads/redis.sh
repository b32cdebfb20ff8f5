# redis-benchmark, snapshots, append-only file and its rewrite, Lua, publish and subscribe; held out:
# replication, lazy freeing, streams, transactions, access lists, a rewritten configuration.
prepare() {
    put /etc/redis/redis.conf <<'END'
bind 127.0.0.1
port 6379
unixsocket /var/lib/redis/redis.sock
dir /var/lib/redis
appendonly yes
appendfsync everysec
save 60 1000
END
    mkdir -p "$ROOT/var/lib/redis"
    chown -R 100:100 "$ROOT/var/lib/redis" "$ROOT/etc/redis"
}
cli() { inside redis-cli "$@"; }
ready() { cli ping; }
settled() { cli info persistence | tr -d '\r' | grep -qx "$1:0"; }
recorded() {
    inside redis-benchmark -q -n 500 -c 10 -t set,get,incr,lpush,lrange,mset
    inside redis-benchmark -q -n 500 -P 8 -s /var/lib/redis/redis.sock -t set,get
    cli save
    cli bgsave
    until_so settled rdb_bgsave_in_progress
    cli bgrewriteaof
    until_so settled aof_rewrite_in_progress
    cli eval "for i = 1, 100 do redis.call('set', 'k' .. i, i) end return redis.call('get', 'k7')" 0
    cli set short lived PX 50
    cli config set hz 50
    cli info all >/dev/null
    cli client list >/dev/null
    timeout 1 nsenter --target "$PID" --net -- chroot "$ROOT" redis-cli subscribe news >/dev/null &
    sleep 0.3
    cli publish news hello
    wait || true
    cli flushdb
}
held_out() {
    cli set before replication
    (cd "$ROOT/tmp" && exec nsenter --target "$PID" --net -- chroot "$ROOT" redis-server \
        --port 6380 --save '' --dir /tmp --replicaof 127.0.0.1 6379) >/dev/null &
    until_so sh -c "nsenter --target $PID --net -- chroot $ROOT redis-cli -p 6380 get before | grep -q replication"
    cli xadd stream '*' a 1
    cli xread count 1 streams stream 0
    printf 'multi\nset a 1\nincr a\nexec\n' | cli
    inside redis-benchmark -q -n 500 -d 4000 -r 500 -t set
    cli flushall async
    cli acl setuser eve on '>secret' '~x*' +get
    cli memory doctor
    cli latency doctor >/dev/null
    cli config rewrite
    cli -p 6380 shutdown nosave || true
    wait || true
    cli config set appendonly no
    cli config set appendonly yes
    until_so settled aof_rewrite_in_progress
    cli shutdown save || true
}
