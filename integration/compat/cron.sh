# A job of root's and one of a user's, each as whom it should be.
packages='cron'
command='["cron", "-f"]'
build() {
    useradd -m -u 1000 user
    # Every minute would make a slow test: @reboot runs when cron starts.
    printf '@reboot root id -u >/tmp/by-root\n@reboot user id -u >/tmp/by-user\n' | put /etc/cron.d/test
    echo '@reboot id -un >/tmp/by-table' | crontab -u user -
}
# As process 1 it does not hear SIGTERM, for which it has no handler.
kills=yes
ready() { [ -s /tmp/by-root ] && [ -s /tmp/by-user ] && [ -s /tmp/by-table ]; }
load() {
    same "$(cat /tmp/by-root /tmp/by-user /tmp/by-table | xargs)" '0 1000 user'
    same "$(stat -c %U /tmp/by-user)" user
    crontab -u user -l | grep -q by-table
}
