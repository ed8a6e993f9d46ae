"""What a client that trusts the public authorities thinks of a server's certificate.

A handshake in memory, with the context that serves: what a browser would refuse, this
refuses for the same reason.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
SELF_SIGNED = (18, 19)  # the certificate itself, or the root that comes with it

WHY = {
    EXPIRED: "has expired; clients refuse it: renew it.",
    **dict.fromkeys(
        SELF_SIGNED,
        "is signed by itself or by a root of its own; only clients that were given "
        "this root accept it.",
    ),
}
NO_CHAIN = (
    "has no chain to an authority that this machine trusts ({reason}): put the "
    "intermediate certificates behind it (fullchain.pem), or give a private "
    "authority's root to the clients."
)


def why_refused(server: ssl.SSLContext) -> str:
    """Return why clients refuse the certificate of *server*, or an empty string.

    The sentence has no subject. Names are not compared: a server has many.
    """
    client = ssl.create_default_context()
    client.check_hostname = False
    try:
        _shake(client, server)
    except ssl.SSLCertVerificationError as error:
        reason = NO_CHAIN.format(reason=error.verify_message)
        return WHY.get(error.verify_code, reason)
    except ssl.SSLError:  # of another step: ciphers, or a certificate of the client
        return ""
    return ""


def _shake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Let the client see the server's certificate, and raise what it thinks of it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there, server_side=False)
    answering = server.wrap_bio(there, back, server_side=True)
    for _ in range(2):  # hello and answer; then the certificate is known
        for side in asking, answering:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
