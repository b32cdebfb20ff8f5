# Text protocol, many connections; held out: the meta and binary protocols, UDP, slab statistics, expiry.
prepare() { cp "$here/memcached.py" "$CLIENTS/tmp/memcached.py"; }
ready() { client python3 /tmp/memcached.py ready; }
recorded() { client python3 /tmp/memcached.py recorded; }
held_out() { client python3 /tmp/memcached.py held_out; }
