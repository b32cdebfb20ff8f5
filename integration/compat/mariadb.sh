# InnoDB under load, a dump and its import, an account; started as root, runs as mysql.
packages='mariadb-server'
heavy=yes
command='["sh", "-c", "install -d -o mysql /run/mysqld && exec mariadbd --user=mysql"]'
ready() { mariadb-admin ping; }
load() {
    mariadb-slap --auto-generate-sql --concurrency=4 --number-of-queries=200 >/dev/null
    mariadb <<'END'
create database d; use d;
create table t (i int primary key auto_increment, m varchar(64), key (m)) engine=innodb;
insert into t (m) select md5(seq) from seq_1_to_20000;
update t set m = concat(m, 'x') where i % 7 = 0;
optimize table t;
select * from t order by m limit 10 into outfile '/var/lib/mysql/out';
create user u@localhost identified by 'p'; grant select on d.* to u@localhost;
END
    mariadb-dump d >/tmp/dump
    mariadb -e 'create database e'
    mariadb e </tmp/dump
    same "$(mariadb -uu -pp -BNe 'select count(*) from d.t')" 20000
    same "$(mariadb -BNe 'checksum table d.t, e.t' | cut -f2 | sort -u | wc -l)" 1
    same "$(owners mariadbd)" "$(id -u mysql) "
    same "$(stat -c %U /var/lib/mysql/out)" mysql
}
