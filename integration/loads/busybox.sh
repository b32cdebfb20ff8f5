# Applets in a script; held out: others.
prepare() {
    put /load/recorded.sh <<'END'
set -e
b=/bin/busybox
cd "$($b mktemp -d)"
$b seq 500 >n
$b sort -rn n | $b head -n 50 | $b tail -n 5 | $b awk '{ s += $1 } END { print s }'
$b mkdir -p a/b && $b cp n a/b && $b mv a/b/n a/m && $b ln -s a l && $b ls -l . >/dev/null
$b sed s/1/2/ n | $b grep -c 2
$b tar -cf t.tar a && $b gzip t.tar && $b gunzip t.tar.gz && $b tar -tf t.tar
$b find . -name m -exec $b wc -c {} ';'
$b md5sum n && $b date -u >/dev/null && $b id && $b uname -r >/dev/null && $b df / >/dev/null
($b sleep 0.1 &) ; $b dd if=n of=o bs=100 count=2 2>/dev/null; $b chmod 600 o; $b touch o; $b rm -r a
echo LOAD DONE
END
    put /load/held_out.sh <<'END'
set -e
b=/bin/busybox
cd "$($b mktemp -d)"
$b mkdir www && echo hello >www/index.html
$b httpd -p 127.0.0.1:8000 -h www
$b sleep 0.3
[ "$($b wget -q -O - http://127.0.0.1:8000/index.html)" = hello ]
$b nc -l -p 9000 >got & $b sleep 0.3; echo ping | $b nc -w 1 127.0.0.1 9000; wait
$b cat got
echo 'root x' | $b cut -d' ' -f1 | $b tr a-z A-Z
$b vi -h >/dev/null 2>&1 || true
$b xxd www/index.html | $b head -n 1; $b sha256sum www/index.html; $b stat www >/dev/null; $b du -s . >/dev/null
$b ps >/dev/null; $b free >/dev/null; $b nproc; $b hostname; $b cmp got got; $b bzip2 -k got; $b diff got got
$b timeout 1 $b sleep 3 || true
trap 'echo LOAD DONE' EXIT
$b killall httpd || $b kill "$($b pidof busybox)" 2>/dev/null || true
END
}
