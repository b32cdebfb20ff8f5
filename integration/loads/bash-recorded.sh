# Files, text, arithmetic, jobs, traps, redirections with the core utilities.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
seq 2000 >numbers
sort -rn numbers >sorted
head -n 100 sorted | tail -n 10 | cut -c1-3 | tr '0-9' 'a-j' | uniq -c | wc -l >/dev/null
mkdir -p a/b/c
cp numbers a/b/
mv a/b/numbers a/b/c/n
ln -s a/b/c/n link
ln a/b/c/n hard
chmod 600 hard
touch -d '2020-01-01' hard
ls -la . a >/dev/null
du -s . >/dev/null
df . >/dev/null
stat -c %s hard >/dev/null
cat numbers numbers >double
cmp <(sort numbers) <(sort hard)
sha256sum double | sha256sum >/dev/null
dd if=double of=copy bs=1k count=4 status=none
split -l 500 numbers part.
paste part.aa part.ab | join -t '	' -1 1 -2 1 - <(paste part.aa part.ab) >/dev/null || true
sum=0
while read -r n; do sum=$((sum + n)); done <numbers
[ "$sum" = 2001000 ]
sleep 0.1 &
(exit 3) || [ $? = 3 ]
wait
date -u +%s >/dev/null
uname -a >/dev/null
id >/dev/null
env A=b printenv A >/dev/null
tee x y <numbers >/dev/null
expr 3 + 4 >/dev/null
basename /a/b
readlink -f link >/dev/null
rmdir a/none 2>/dev/null || true
echo "LOAD DONE"
