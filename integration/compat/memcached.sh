# Runs as memcache from the image: a thousand keys, expiry, statistics, over TCP and a Unix socket.
packages='memcached libcache-memcached-perl netcat-openbsd'
command='["memcached", "-l", "127.0.0.1", "-m", "32"]'
user=memcache
ready() { printf 'version\r\nquit\r\n' | nc -N 127.0.0.1 11211 | grep -q VERSION; }
load() {
    perl -MCache::Memcached -e '
        my $m = Cache::Memcached->new({servers => ["127.0.0.1:11211"]});
        $m->set("k$_", "v" x $_) or die for 1 .. 1000;
        length($m->get("k$_")) == $_ or die for 1 .. 1000;
        $m->set("c", 1); $m->incr("c", 41); $m->get("c") == 42 or die;
        $m->delete("c"); defined $m->get("c") and die;'
    memcached -d -s /tmp/memcached.sock -P /tmp/memcached.pid
    until_so sh -c 'printf "stats\r\nquit\r\n" | nc -NU /tmp/memcached.sock | grep -q "STAT pid"'
    kill "$(cat /tmp/memcached.pid)"
}
