# Tables of InnoDB, slap, indices, OPTIMIZE, an imported file; held out: Aria and MyISAM, triggers, events,
# partitions, dumps, temporary tables on disk.
prepare() {
    mkdir -p "$ROOT/data" "$ROOT/run/mysqld" "$ROOT/var/log/mysql"
    mount --bind /dev "$ROOT/dev"
    chroot "$ROOT" mariadb-install-db --user=root --datadir=/data --skip-test-db \
        --auth-root-authentication-method=normal --innodb-log-file-size=8M >/dev/null
    umount "$ROOT/dev"
    chown -R 106:106 "$ROOT/data" "$ROOT/run/mysqld" "$ROOT/var/log/mysql"
}
sql() { inside mariadb -uroot "$@"; }
ready() { sql -e 'select 1'; }
recorded() {
    inside mariadb-slap -uroot --auto-generate-sql --concurrency=4 --number-of-queries=200 >/dev/null
    sql <<'END'
create database d; use d;
create table t (i int primary key auto_increment, m varchar(64), key (m)) engine=innodb;
insert into t (m) select md5(seq) from seq_1_to_20000;
update t set m = concat(m, 'x') where i % 7 = 0;
alter table t add column extra int default 0;
optimize table t; analyze table t; check table t;
select * from t order by m limit 10 into outfile '/tmp/out';
create table u like t; load data infile '/tmp/out' into table u;
start transaction; delete from t where i < 1000; rollback;
flush tables; flush logs; show engine innodb status; set global innodb_buffer_pool_size = 16777216;
END
}
held_out() {
    sql >/dev/null <<'END'
create database e; use e;
create table a (i int primary key, t text) engine=aria; insert into a select seq, repeat('x', 200) from seq_1_to_5000;
create table m (i int, t text, fulltext (t)) engine=myisam; insert into m select * from a;
create table p (i int) partition by hash (i) partitions 4; insert into p select seq from seq_1_to_1000;
create trigger tr before insert on a for each row set new.t = upper(new.t);
set global event_scheduler = on; create event ev on schedule every 1 second do insert into p values (1);
set tmp_memory_table_size = 1024; select t, count(*) from a group by t, i order by 2 limit 3;
repair table m; xa start 'x'; insert into p values (5); xa end 'x'; xa prepare 'x'; xa commit 'x';
create user u identified by 'p'; grant select on e.* to u; select sleep(1.2); select get_lock('l', 1);
END
    inside mariadb-dump -uroot --all-databases >/dev/null
    inside mariadb -uu -pp -h127.0.0.1 -e 'select count(*) from e.a' >/dev/null
    sql -e 'drop database e; purge binary logs before now(); shutdown'
}
