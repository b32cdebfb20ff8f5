# The image's user is postgres: initdb at the start, pgbench, an index, VACUUM, COPY, a crash and recovery.
packages='postgresql-15'
command='["sh", "/usr/local/bin/serve"]'
user=postgres
before() { echo 'create_main_cluster = false' | put /etc/postgresql-common/createcluster.conf; }
build() {
    put /usr/local/bin/serve <<'END'
set -e
[ -e /var/lib/postgresql/data/PG_VERSION ] ||
    /usr/lib/postgresql/15/bin/initdb -D /var/lib/postgresql/data -E UTF8 --locale=C.UTF-8 >/dev/null
exec /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/data -k /tmp
END
}
export PGHOST=/tmp PATH=$PATH:/usr/lib/postgresql/15/bin
ready() { pg_isready -q && psql -qc 'select 1'; }
load() {
    pgbench -q -i -s 1 2>/dev/null
    pgbench -n -c 4 -t 50 >/dev/null 2>&1
    psql -q -v ON_ERROR_STOP=1 <<'END'
create index on pgbench_accounts(abalance);
vacuum full analyze;
copy (select * from pgbench_accounts order by aid) to '/tmp/accounts';
create table again (like pgbench_accounts);
copy again from '/tmp/accounts';
set max_parallel_workers_per_gather = 2; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0;
select count(*) from again where abalance > -1000000;
checkpoint;
END
    same "$(psql -Atc 'select count(*) from again')" 100000
    # A backend dies: the rest recovers.
    kill -9 "$(psql -Atc "select pid from pg_stat_activity where backend_type = 'walwriter'")"
    sleep 0.2
    until_so ready
    same "$(psql -Atc 'select count(*) from again')" 100000
    same "$(stat -c %U:%a /var/lib/postgresql/data)" postgres:700
}
