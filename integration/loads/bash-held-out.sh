# Signals, coprocesses, here documents, devices and limits with other core utilities.
set -euo pipefail
shopt -s globstar
work=$(mktemp -d)
cd "$work"
coproc cat
echo through >&"${COPROC[1]}"
read -r answer <&"${COPROC[0]}"
[ "$answer" = through ]
exec {COPROC[1]}>&-
trap 'caught=1' USR1
kill -USR1 $$
[ "$caught" = 1 ]
ulimit -n 256
umask 077
mkfifo pipe
seq 100 >pipe &
mapfile -t lines <pipe
[ ${#lines[@]} = 100 ]
timeout 0.2 sleep 5 || [ $? = 124 ]
nice -n 5 true
nohup true >/dev/null 2>&1
truncate -s 1M sparse
shred -n 1 -u sparse
install -m 644 /etc/passwd installed
chown 0:0 installed
comm /etc/passwd installed >/dev/null
base64 installed | base64 -d | cmp - installed
od -c installed | fold -w 60 | nl | pr >/dev/null
shuf -n 3 installed | tac | rev 2>/dev/null >/dev/null || true
numfmt --to=iec 123456 >/dev/null
factor 1234567 >/dev/null
sync installed
nproc >/dev/null
who >/dev/null
groups >/dev/null
hostname >/dev/null
tty >/dev/null || true
stty -a >/dev/null 2>&1 || true
mktemp -u >/dev/null
printf '%s\n' ** >/dev/null
(ulimit -t 5 && cd / && pwd -P >/dev/null)
exec 5<>/dev/null
echo $SECONDS $RANDOM $EPOCHREALTIME "$(<installed)" >/dev/null
find . -type f -newer pipe -print0 | xargs -0 -r ls -l >/dev/null
grep -c root installed >/dev/null
sed -i s/root/toor/ installed
gzip -k installed
tar -czf a.tgz installed
tar -xzf a.tgz -O >/dev/null
rm -rf "$work"
echo "LOAD DONE"
