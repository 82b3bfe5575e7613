#!/bin/sh
# A Postfix of its own on loopback, in the foreground: postfix.sh FOLDER CERTIFICATES STARTTLS_PORT TLS_PORT
#
# Both ports want TLS and a login (watch, s3cret). What is for example.org lands in FOLDER/mail/Maildir, but for
# full@ (452), grey@ (450) and gone@ (550). Nothing of the machine's own Postfix is used but its programs.
set -eu
directory=$1 certificates=$2 starttls=$3 tls=$4
mkdir -p "$directory/etc/sasl" "$directory/queue" "$directory/data" "$directory/mail"
chmod 755 "$directory"
chown nobody "$directory/mail"
chown postfix "$directory/data"
cat >"$directory/etc/main.cf" <<END
compatibility_level = 3.6
queue_directory = $directory/queue
data_directory = $directory/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = localhost
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
virtual_mailbox_domains = example.org
virtual_mailbox_base = $directory/mail
virtual_mailbox_maps = static:Maildir/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_transport = virtual
maillog_file = /dev/stdout
smtpd_tls_cert_file = $certificates/good.pem
smtpd_tls_key_file = $certificates/good.key
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{ {full@example.org = 452 4.2.2 Mailbox full}, {gone@example.org = 550 5.1.1 No such user}, {grey@example.org = 450 4.2.0 Greylisted} }, permit_sasl_authenticated, reject
smtpd_error_sleep_time = 0
smtpd_peername_lookup = no
disable_dns_lookups = yes
END
cat >"$directory/etc/master.cf" <<END
postlog   unix-dgram n  -       n       -       1       postlogd
127.0.0.1:$starttls inet n - n - - smtpd
127.0.0.1:$tls inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
END
# Debian's Postfix looks for this beside its own config, and nowhere else
cat >"$directory/etc/sasl/smtpd.conf" <<END
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $directory/etc/sasl/sasldb2
mech_list: PLAIN LOGIN
END
echo s3cret | saslpasswd2 -p -c -u localhost -f "$directory/etc/sasl/sasldb2" watch
chown postfix "$directory/etc/sasl/sasldb2"
exec postfix -c "$directory/etc" start-fg
