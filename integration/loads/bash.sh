# A shell script with the core utilities; held out: another one.
prepare() { mkdir -p "$ROOT/load" && cp "$here"/bash-*.sh "$ROOT/load/"; }
