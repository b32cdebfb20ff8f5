# A write-ahead log with its shared memory, four writers at once, an integrity check.
packages='sqlite3'
load() {
    cd /var/lib
    sqlite3 db 'pragma journal_mode = wal; create table t (i integer primary key, w int, x text);' >/dev/null
    for w in 1 2 3 4; do
        (for i in $(seq 30); do
            echo "insert into t (w, x) values ($w, hex(randomblob(200)));"
        done | sqlite3 -cmd '.timeout 20000' db) &
    done
    wait
    same "$(sqlite3 db 'select count(*) from t; pragma integrity_check;' | xargs)" '120 ok'
    sqlite3 db 'create index x on t (x); vacuum; pragma wal_checkpoint(truncate);' >/dev/null
    sqlite3 db .dump | sqlite3 copy
    same "$(sqlite3 copy 'select count(distinct x) from t')" 120
}
