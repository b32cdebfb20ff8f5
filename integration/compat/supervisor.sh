# supervisord with a program that dies and one as another user; its control socket.
packages='supervisor'
command='["supervisord", "-n", "-c", "/etc/supervisor/supervisord.conf"]'
build() {
    put /etc/supervisor/conf.d/test.conf <<'END'
[program:dies]
command=sh -c "sleep 1; exit 1"
startsecs=0
autorestart=true
[program:other]
command=sleep 1000
user=www-data
END
}
ready() { supervisorctl status other | grep -q RUNNING; }
load() {
    first=$(supervisorctl pid other)
    same "$(awk '/^Uid/ { print $2 }' "/proc/$first/status")" 33
    kill -9 "$first"
    restarted() { [ "$(supervisorctl pid other)" != "$first" ]; }
    until_so restarted
    until_so grep -q "exited: dies" /var/log/supervisor/supervisord.log
    supervisorctl stop other | grep -q stopped
}
