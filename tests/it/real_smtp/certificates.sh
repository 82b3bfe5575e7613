#!/bin/sh
# Makes in the directory $1: an authority (ca.pem), and certificates of it for localhost (good), for another name
# (other) and for a time that is over (expired); and two that signed themselves: one of a server (alone), and one of an
# authority (own), as openssl makes it unasked. Elliptic curves: no waiting.
set -eu
cd "$1"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

key ca
openssl req -x509 -new -key ca.key -days 3650 -subj '/CN=Authority of a test' -out ca.pem \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
key alone
openssl req -x509 -new -key alone.key -days 3650 -subj '/CN=Alone in a test' -out alone.pem \
    -addext 'basicConstraints=critical,CA:FALSE' -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1'
key own
openssl req -x509 -new -key own.key -days 3650 -subj '/CN=localhost' -out own.pem \
    -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1'

# `openssl ca` is the only command of old versions that can date a certificate back
mkdir issued
: > index.txt
echo 01 > serial
cat > ca.conf <<'END'
[ca]
default_ca = own
[own]
dir = .
database = ./index.txt
serial = ./serial
new_certs_dir = ./issued
certificate = ./ca.pem
private_key = ./ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
END
issue() { # NAME DNS START END
    key "$1"
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:%s%s\n' \
        "$2" "${5:-}" > "$1.ext"
    openssl ca -batch -notext -config ca.conf -extfile "$1.ext" -startdate "$3" -enddate "$4" \
        -in "$1.csr" -out "$1.pem"
}
issue good localhost 20200101000000Z 20991231000000Z ,IP:127.0.0.1
issue other other.example 20200101000000Z 20991231000000Z
issue expired localhost 20200101000000Z 20200102000000Z
