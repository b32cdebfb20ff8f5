# Names from a file over UDP and TCP, and a reload by signal; gives up root.
packages='dnsmasq-base bind9-dnsutils'
command='["dnsmasq", "--keep-in-foreground", "--no-resolv", "--addn-hosts=/etc/names", "--user=dnsmasq", "--listen-address=127.0.0.1", "--cname=other,one.test"]'
build() { seq 200 | awk '{ print "10.0.0." $1, "host" $1 ".test" } END { print "10.1.1.1 one.test" }' | put /etc/names; }
ready() { dig +short +time=1 @127.0.0.1 one.test | grep -q 10.1.1.1; }
load() {
    same "$(dig +short @127.0.0.1 host7.test)" 10.0.0.7
    same "$(dig +short +tcp @127.0.0.1 -x 10.0.0.9)" host9.test.
    echo '10.2.2.2 new.test' >>/etc/names
    kill -s HUP 1
    until_so sh -c 'dig +short @127.0.0.1 new.test | grep -q 10.2.2.2'
    same "$(owners dnsmasq)" "$(id -u dnsmasq) "
}
