# A system bus: callers are known by the credentials of their sockets, a policy refuses.
packages='dbus dbus-bin'
command='["sh", "-c", "mkdir /run/dbus && exec dbus-daemon --system --nofork --nopidfile"]'
build() {
    useradd -u 1000 user
    dbus-uuidgen --ensure
}
ask() { dbus-send --system --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus "org.freedesktop.DBus.$@"; }
ready() { ask ListNames; }
load() {
    ask GetConnectionUnixUser string:org.freedesktop.DBus | grep -q "uint32 $(id -u messagebus)"
    denied AccessDenied ask RequestName string:test.invalid uint32:0
    su user -c 'dbus-send --system --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus.GetId' | grep -q string
    same "$(owners dbus-daemon)" "$(id -u messagebus) "
}
