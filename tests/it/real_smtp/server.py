"""Mail servers of aiosmtpd on loopback, for one test: server.py MAIL CERTIFICATES

Prints one line of JSON: the port of each kind of server. Every message that is taken becomes a JSON file in
MAIL, as Python's email package reads it. Ends when standard input is closed.

Kinds: plain; starttls (and a login are required); tls (from the start, and a login); optional (STARTTLS, no login);
mute (as optional, and never offers a login);
other, expired, alone, own: as optional, with that certificate.
Recipients: gone@ 550; full@ 452; grey@ 450 the first time. A subject with DATA554 or DATA451 is answered so.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

mail, certificates = sys.argv[1:3]
greylisted = set()
taken = 0


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        local = address.split("@")[0]
        if local == "gone":
            return "550 5.1.1 No such user"
        if local == "full":
            return "452 4.2.2 Mailbox full"
        if local == "grey" and address not in greylisted:
            greylisted.add(address)
            return "450 4.2.0 Greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global taken
        raw = envelope.original_content
        if b"DATA554" in raw:
            return "554 5.7.1 Message refused"
        if b"DATA451" in raw:
            return "451 4.3.0 Try later"
        message = email.message_from_bytes(raw, policy=email.policy.default)
        taken += 1
        name = os.path.join(mail, f"{taken}.json")
        with open(name + ".new", "w") as file:
            json.dump(
                {
                    "from": envelope.mail_from,
                    "to": envelope.rcpt_tos,
                    "login": str(session.auth_data or ""),
                    "tls": server.transport.get_extra_info("sslcontext") is not None,
                    "headers": [[name, str(value)] for name, value in message.items()],
                    "defects": [str(defect) for defect in message.defects],
                    "body": message.get_content().replace("\r\n", "\n"),
                    "longest": max(len(line) for line in raw.split(b"\r\n")),
                },
                file,
            )
        os.rename(name + ".new", name)
        return "250 2.0.0 Queued"


def authenticate(server, session, envelope, mechanism, data):
    if data.login == b"watch" and data.password == b"s3cret":
        return AuthResult(success=True, auth_data=data.login.decode())
    return AuthResult(success=False, handled=False)


def context(name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{certificates}/{name}.pem", f"{certificates}/{name}.key")
    return made


login = {"auth_required": True, "authenticator": authenticate}
kinds = {
    "plain": ({}, None),
    "starttls": ({"tls_context": context("good"), "require_starttls": True, "ident": "ESMTP", **login}, None),
    "tls": ({"auth_require_tls": False, **login}, context("good")),
    "optional": ({"tls_context": context("good")}, None),
    "mute": ({"tls_context": context("good"), "auth_exclude_mechanism": ["LOGIN", "PLAIN"]}, None),
    "other": ({"tls_context": context("other")}, None),
    "expired": ({"tls_context": context("expired")}, None),
    "alone": ({"tls_context": context("alone")}, None),
    "own": ({"tls_context": context("own")}, None),
}


async def main():
    loop = asyncio.get_running_loop()
    ports, servers = {}, []
    for kind, (options, tls) in kinds.items():
        factory = lambda options=options: SMTP(Handler(), hostname="localhost", loop=loop, **options)
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        ports[kind] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
