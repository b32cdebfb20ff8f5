# MQTT: a retained message, a subscriber, passwords, persistence; started as root, runs as mosquitto.
packages='mosquitto mosquitto-clients'
command='["mosquitto", "-c", "/etc/mosquitto/mosquitto.conf"]'
build() {
    mosquitto_passwd -b -c /etc/mosquitto/users user pass 2>/dev/null
    chown mosquitto /etc/mosquitto/users
    printf 'listener 1883 127.0.0.1\npassword_file /etc/mosquitto/users\npersistence true\npersistence_location /var/lib/mosquitto/\nautosave_interval 1\n' |
        put /etc/mosquitto/mosquitto.conf
}
ready() { mosquitto_pub -u user -P pass -t a -m b; }
load() {
    mosquitto_pub -u user -P pass -t kept -m value -r
    same "$(mosquitto_sub -u user -P pass -t kept -C 1 -W 5)" value
    denied 'not authorised' mosquitto_pub -u user -P wrong -t a -m b
    mosquitto_sub -u user -P pass -t many -C 100 -W 10 >/tmp/many &
    sleep 0.3
    seq 100 | mosquitto_pub -u user -P pass -t many -l
    wait
    same "$(wc -l </tmp/many)" 100
    same "$(owners mosquitto)" "$(id -u mosquitto) "
}
