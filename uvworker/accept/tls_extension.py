"""ASGI's `tls` extension, version 0.2: what the app learns of a TLS connection.

Source: the ASGI specification, "TLS Extension"; RFC 4514 for the name of a client.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def describe(
    connection: ssl.SSLObject, server_cert: str | None = None
) -> dict[str, Any]:
    """Return `scope["extensions"]["tls"]`, once per connection, at its first request.

    It costs less than 1 µs without a client's certificate and about 15 µs with one; the
    handshake costs about 1000 µs. A dict that is filled when it is read would look
    empty to C code, such as `json`'s.

    Args:
        connection: the transport's `ssl_object`, its handshake done.
        server_cert: from `Certificates.server_cert(connection.context)`.

    Returns:
        All entries of the specification. `client_cert_error` is always None, because
        OpenSSL refuses a certificate that it cannot verify in the handshake. The chain
        is complete from Python 3.13 on; before, it has only the client's certificate.

    """
    cipher = connection.cipher()
    chain = _client_chain(connection)
    return {
        "server_cert": server_cert,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in chain],
        "client_cert_name": _subject(connection) if chain else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": _cipher_suites().get(cipher[0]) if cipher else None,
    }


def _client_chain(connection: ssl.SSLObject) -> list[bytes]:
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return []
    sent = getattr(connection, "get_unverified_chain", None)  # Python 3.13
    return sent() if sent else [leaf]


@lru_cache(maxsize=1)
def _cipher_suites() -> dict[str, int]:
    """Map OpenSSL's names to IANA's numbers, for all ciphers that OpenSSL knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    # OpenSSL's id is the suite's number, with a higher byte that means "TLS".
    return {item["name"]: item["id"] & 0xFFFF for item in context.get_ciphers()}


# -- RFC 4514: a distinguished name as a string

# Section 3's table, by OpenSSL's names; other types have the same name in both
# (serialNumber, emailAddress, title) or none.
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
    "surname": "sn",
}
_SPECIAL = re.compile(r'^[ #]|[ ]\Z|[\\"+,;<>\x00]')  # section 2.4


def _subject(connection: ssl.SSLObject) -> str:
    subject: Any = (connection.getpeercert() or {}).get("subject", ())
    return rfc4514(subject)


def rfc4514(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return a subject of `getpeercert()` in RFC 4514's form.

    The most specific name comes first: `CN=ann,OU=staff,O=Example`.
    """
    return ",".join(
        "+".join(_attribute(name, value) for name, value in names)
        for names in reversed(subject)
    )


def _attribute(name: str, value: str) -> str:
    if name[0].isdigit():  # an OID, without a name: section 2.4 requires BER in hex
        return f"{name}=#{_ber_utf8(value).hex()}"
    return f"{_SHORT_NAMES.get(name, name)}={_SPECIAL.sub(_escape, value)}"


def _escape(match: re.Match[str]) -> str:
    return "\\00" if match[0] == "\x00" else f"\\{match[0]}"


def _ber_utf8(value: str) -> bytes:
    """Encode a UTF8String (tag 12); OpenSSL does not tell the original string type."""
    content = value.encode()
    length = len(content)
    if length < 0x80:  # noqa: PLR2004 - X.690, 8.1.3: from here on, the length has a length
        return bytes((12, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((12, 0x80 | size)) + length.to_bytes(size, "big") + content
