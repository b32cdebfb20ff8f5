# A zone over UDP and TCP, a transfer, a dynamic update, rndc; started as root, runs as bind.
packages='bind9 bind9-dnsutils'
command='["sh", "-c", "install -d -o bind /run/named && exec named -f -u bind"]'
build() {
    put /etc/bind/named.conf.local <<'END'
zone "test" { type primary; file "/var/lib/bind/test.zone"; allow-update { 127.0.0.1; }; allow-transfer { 127.0.0.1; }; };
END
    printf 'options { directory "/var/cache/bind"; listen-on { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; dnssec-validation no; };\n' |
        put /etc/bind/named.conf.options
    {
        printf '$TTL 60\n@ SOA ns.test. root.test. 1 60 60 600 60\n@ NS ns\nns A 127.0.0.1\n'
        seq -f 'host%.0f A 10.0.0.1' 300
    } | put /var/lib/bind/test.zone
    chown bind:bind /var/lib/bind/test.zone
}
ready() { dig +short +time=1 @127.0.0.1 ns.test | grep -q 127.0.0.1; }
load() {
    same "$(dig +short @127.0.0.1 host7.test)" 10.0.0.1
    same "$(dig +tcp +short @127.0.0.1 host8.test)" 10.0.0.1
    same "$(dig @127.0.0.1 test AXFR | grep -c host)" 300
    printf 'server 127.0.0.1\nzone test\nupdate add new.test 60 A 10.1.1.1\nsend\n' | nsupdate
    same "$(dig +short @127.0.0.1 new.test)" 10.1.1.1
    rndc sync -clean test
    rndc reload >/dev/null
    until_so ready
    same "$(owners named)" "$(id -u bind) "
}
