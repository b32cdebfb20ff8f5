# initdb, pgbench, index builds, VACUUM, COPY, a checkpoint, reload; held out: parallel queries, sorts on
# disk, large objects, LISTEN, prepared transactions, a base backup, a dump.
prepare() {
    mkdir -p "$ROOT/data" "$ROOT/run/postgresql"
    chown 105:105 "$ROOT/data" "$ROOT/run/postgresql"
    chmod 700 "$ROOT/data"
    put /load/start.sh <<'END'
set -e
/usr/lib/postgresql/15/bin/initdb -D /data -E UTF8 --locale=C.UTF-8 >/dev/null
exec /usr/lib/postgresql/15/bin/postgres -D /data -c max_prepared_transactions=5 -c wal_level=replica \
    -c autovacuum_naptime=1s
END
}
bin=/usr/lib/postgresql/15/bin
as_user() { nsenter --target "$PID" --net -- chroot --userspec=105:105 "$ROOT" "$@"; }
sql() { as_user $bin/psql -q -v ON_ERROR_STOP=1 -d postgres "$@"; }
ready() { as_user $bin/pg_isready -h 127.0.0.1 && sql -c 'select 1'; }
recorded() {
    as_user $bin/pgbench -q -i -s 1 postgres 2>/dev/null
    as_user $bin/pgbench -n -c 4 -t 50 postgres >/dev/null 2>&1
    as_user $bin/pgbench -n -h 127.0.0.1 -S -c 2 -t 100 postgres >/dev/null 2>&1
    sql <<'END'
create index on pgbench_accounts(abalance);
vacuum full analyze;
copy (select * from pgbench_accounts) to '/tmp/accounts';
create table copied (like pgbench_accounts);
copy copied from '/tmp/accounts';
checkpoint;
select pg_reload_conf();
create extension if not exists plpgsql;
do $$ begin for i in 1..100 loop perform i; end loop; end $$;
drop table copied;
END
    sleep 1.5
}
held_out() {
    install -d -o 105 -g 105 "$ROOT/tmp/ts"
    sql >/dev/null <<'END'
create table t as select i, md5(i::text) m from generate_series(1, 100000) i;
analyze t;
set work_mem = '64kB';
set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
select count(*) from (select * from t order by m) s;
select count(*), sum(i) from t;
set jit_above_cost = 0; select sum(i * 2 + length(m)) from t;
select lo_from_bytea(0, repeat('x', 100000)::bytea);
listen news; notify news, 'hello';
begin; insert into t values (0, ''); prepare transaction 'p'; commit prepared 'p';
select pg_advisory_lock(1); select pg_sleep(0.1); create database other; create tablespace ts location '/tmp/ts';
END
    as_user $bin/pg_dump postgres >/dev/null
    as_user $bin/pg_basebackup -D /tmp/backup -F t -X stream -c fast
    as_user $bin/pgbench -q -i -s 1 other 2>/dev/null
    as_user $bin/pgbench -n -M prepared -c 3 -j 2 -t 50 other >/dev/null 2>&1
    sql -c 'select pg_switch_wal()' -c 'drop table t' >/dev/null
    sql -c 'drop database other'
    signal HUP
    sleep 1
}
