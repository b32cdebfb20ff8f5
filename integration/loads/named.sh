# Queries over UDP and TCP, a zone transfer, rndc, a dynamic update; held out: an inline-signed zone, a
# signed update, a cache dump, a reload by signal.
prepare() {
    put /etc/bind/named.conf <<'END'
options {
    directory "/var/cache/bind";
    listen-on { 127.0.0.1; };
    listen-on-v6 { ::1; };
    recursion no;
    allow-transfer { 127.0.0.1; };
    dnssec-validation no;
    dump-file "/var/cache/bind/dump";
};
key "control" { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };
controls { inet 127.0.0.1 port 953 allow { 127.0.0.1; } keys { "control"; }; };
zone "test" { type primary; file "test.zone"; update-policy local; };
zone "plain" { type primary; file "plain.zone"; allow-update { 127.0.0.1; }; };
zone "signed" { type primary; file "signed.zone"; dnssec-policy default; inline-signing yes; allow-update { key "control"; }; };
END
    put /etc/bind/rndc.conf <<'END'
key "control" { algorithm hmac-sha256; secret "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"; };
options { default-key "control"; default-server 127.0.0.1; default-port 953; };
END
    local zone
    for zone in test plain signed; do
        {
            printf '$TTL 60\n@ SOA ns.%s. root.%s. 1 60 60 600 60\n@ NS ns\nns A 127.0.0.1\nns AAAA ::1\n' $zone $zone
            seq -f 'host%.0f A 10.0.0.1' 500
            printf 'big TXT "%s"\n' "$(text 200)" "$(text 210)" "$(text 220)" "$(text 230)" "$(text 240)" "$(text 250)"
        } | put /var/cache/bind/$zone.zone
    done
    mkdir -p "$ROOT/run/named"
    chown -R 103:103 "$ROOT/var/cache/bind" "$ROOT/run/named" "$ROOT/etc/bind"
}
control() { inside rndc -c /etc/bind/rndc.conf "$@"; }
ask() { client dig +time=2 +tries=2 "$@"; }
ready() { ask +short @127.0.0.1 ns.test | grep -c 127.0.0.1; }
recorded() {
    local number
    for number in 1 2 3; do
        ask +short @127.0.0.1 "host$number.test" A "host1$number.test" A nothing.test AAAA >/dev/null
    done
    ask +tcp +short @127.0.0.1 big.test TXT | grep -c lorem
    ask +short @::1 ns.test AAAA | grep -c ::1
    ask @127.0.0.1 test AXFR | grep -c host500
    printf 'server 127.0.0.1\nzone plain\nupdate add new.plain 60 A 10.1.1.1\nsend\n' | client nsupdate
    ask +short @127.0.0.1 new.plain | grep -c 10.1.1.1
    control status >/dev/null
    control reload >/dev/null
    control sync -clean plain
    control stats
    until_so ready
}
held_out() {
    until_so sh -c "nsenter --target $PID --net -- chroot $CLIENTS dig +dnssec @127.0.0.1 host1.signed | grep -c RRSIG"
    printf 'server 127.0.0.1\nkey hmac-sha256:control c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\nzone signed\nupdate add new.signed 60 A 10.1.1.1\nsend\n' |
        client nsupdate
    until_so sh -c "nsenter --target $PID --net -- chroot $CLIENTS dig +short @127.0.0.1 new.signed | grep -c 10.1.1.1"
    control dumpdb -all
    control freeze signed
    control thaw signed
    control querylog on
    control flush
    signal HUP
    until_so ready
    ask @127.0.0.1 signed AXFR >/dev/null
    control stop
}
