# HTTP, files, threads, a child process, compression; held out: UDP, watches, TLS keys, pipes, a cluster.
prepare() { cp "$here"/node-*.js "$ROOT/tmp/"; }
