# Tables, indices, transactions, sorting on disk, vacuum; held out: write-ahead log, full text, backup,
# import, an attached database.
prepare() {
    mkdir -p "$ROOT/data"
    put /load/recorded.sql <<'END'
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
insert into t select i, 'name ' || i, random() from n;
create index by_value on t(value);
pragma temp_store = file;
pragma cache_size = 20;
select count(*) from (select * from t order by name, value desc);
begin; update t set value = value + 1 where id % 3 = 0; rollback;
begin; delete from t where id % 5 = 0; commit;
vacuum;
analyze;
pragma integrity_check;
select 'LOAD DONE', count(*) from t where strftime('%Y', 'now', 'localtime') > '2000';
END
    put /load/held_out.sql <<'END'
pragma journal_mode = wal;
pragma mmap_size = 1048576;
create virtual table words using fts5(body);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)
insert into words select 'word' || i || ' lorem ipsum' from n;
select count(*) from words where words match 'word77';
pragma wal_checkpoint(truncate);
.backup /data/copy.db
attach '/data/other.db' as other;
create table other.t as select rowid as id from words;
.mode csv
.output /data/out.csv
select * from other.t;
.output stdout
create table imported(id);
.import /data/out.csv imported
.once /data/dump.sql
.dump imported
vacuum main into '/data/small.db';
select 'LOAD DONE', count(*) from imported;
END
}
