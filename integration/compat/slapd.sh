# LDAP: a directory made by the package's script, searches, an addition, memory-mapped storage; as openldap.
packages='slapd ldap-utils'
command='["sh", "-c", "install -d -o openldap /run/slapd && exec slapd -d 0 -u openldap -g openldap -h '\''ldap://127.0.0.1/ ldapi:///'\''"]'
before() {
    printf 'slapd slapd/password1 password pass\nslapd slapd/password2 password pass\nslapd slapd/domain string test.invalid\nslapd slapd/no_configuration boolean false\n' |
        debconf-set-selections
}
ready() { ldapsearch -x -LLL -s base -b dc=test,dc=invalid; }
load() {
    for n in $(seq 50); do
        printf 'dn: ou=u%s,dc=test,dc=invalid\nobjectClass: organizationalUnit\nou: u%s\n\n' "$n" "$n"
    done | ldapadd -x -D cn=admin,dc=test,dc=invalid -w pass >/dev/null
    same "$(ldapsearch -x -LLL -b dc=test,dc=invalid '(ou=u*)' dn | grep -c ^dn)" 50
    # Root is known by the credentials of its Unix socket.
    ldapwhoami -Q -Y EXTERNAL -H ldapi:/// | grep -q 'uidNumber=0,cn=peercred'
    same "$(owners slapd)" "$(id -u openldap) "
}
