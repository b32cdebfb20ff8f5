# A validating resolver with local data, chrooted and as its own user; its control channel.
packages='unbound bind9-dnsutils'
command='["unbound", "-d"]'
build() {
    put /etc/unbound/unbound.conf.d/test.conf <<'END'
server:
    interface: 127.0.0.1
    local-zone: "test." static
    local-data: "one.test. A 10.1.1.1"
    num-threads: 2
remote-control:
    control-enable: yes
    control-interface: /run/unbound.ctl
END
    rm -f /etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf
}
ready() { dig +short +time=1 @127.0.0.1 one.test | grep -q 10.1.1.1; }
load() {
    unbound-control local_data two.test. A 10.2.2.2 >/dev/null
    same "$(dig +short @127.0.0.1 two.test)" 10.2.2.2
    unbound-control stats | grep -q total.num.queries
    unbound-control reload >/dev/null
    until_so ready
    same "$(owners unbound)" "$(id -u unbound) "
}
