# Mail from the command line and over SMTP into a user's mailbox; a chrooted smtpd, many users of its own.
packages='postfix bsd-mailx netcat-openbsd'
command='["postfix", "start-fg"]'
before() {
    printf 'postfix postfix/main_mailer_type select Local only\npostfix postfix/mailname string test.invalid\n' |
        debconf-set-selections
}
build() {
    useradd -m -u 1000 user
    postconf -e 'inet_interfaces = loopback-only' 'maillog_file = /dev/stdout' 'mydestination = test.invalid, localhost' 'inet_protocols = ipv4'
    newaliases
}
ready() { nc -N -w 2 127.0.0.1 25 </dev/null | grep -q '^220'; }
load() {
    echo 'from the command line' | mailx -s one user@localhost
    sh -c 'sleep 0.3; for line in "HELO here" "MAIL FROM:<a@test.invalid>" "RCPT TO:<user@test.invalid>" DATA "Subject: two" "" "by SMTP" . QUIT; do printf "%s\r\n" "$line"; sleep 0.1; done' |
        nc -w 5 127.0.0.1 25 >/tmp/smtp
    arrived() { grep -q "^Subject: one" /var/mail/user && grep -q "^by SMTP" /var/mail/user; }
    until_so arrived
    same "$(stat -c %U:%G:%a /var/mail/user)" user:mail:600
    same "$(owners qmgr)" "$(id -u postfix) "
    until_so sh -c 'postqueue -p | grep -q "queue is empty"'
    postfix reload
}
stop() { postfix stop; }
