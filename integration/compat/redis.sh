# The image's user is redis: a benchmark, a snapshot by fork, an append-only file, a restart from it.
packages='redis-server'
command='["redis-server", "--dir", "/var/lib/redis", "--appendonly", "yes"]'
user=redis
ready() { redis-cli ping | grep -q PONG; }
load() {
    redis-benchmark -q -n 2000 -c 20 -t set,get,lpush,lrange >/dev/null
    redis-cli set kept value >/dev/null
    redis-cli bgsave >/dev/null
    settled() { redis-cli info persistence | tr -d '\r' | grep -qx "$1:0"; }
    until_so settled rdb_bgsave_in_progress
    redis-cli bgrewriteaof >/dev/null
    until_so settled aof_rewrite_in_progress
    redis-cli config set appendfsync always >/dev/null
    same "$(stat -c %U /var/lib/redis/dump.rdb)" redis
    redis-cli debug loadaof 2>&1 | grep -q OK || redis-cli debug reload | grep -q . 
    same "$(redis-cli get kept)" value
}
