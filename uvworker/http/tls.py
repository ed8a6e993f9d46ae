"""TLS: the context, its renewal from disk, and what the app may know of a connection.

Here lives everything between a factory of `ssl.SSLContext` (gunicorn's, passed in)
and the acceptor, which reads `Certificates.context` anew for each connection. Rules:
a context is replaced only by one that was built whole; nothing here ever asks a
question at a terminal; whatever fails is a `TLSError` that names file and remedy.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Two round trips and some arithmetic; long enough for a bad mobile link. asyncio's
# own default of 60 s would let stalled handshakes hold a worker's connections.
HANDSHAKE_TIMEOUT = 10.0  # seconds

# What a file must look like, by the setting that names it.
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:\w+ )*PRIVATE KEY-----")
_ONE_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[\w\s+/=]+-----END CERTIFICATE-----\n?"
)

# OpenSSL's reasons that say nothing to who has not read its source.
_REASONS = {
    "KEY_VALUES_MISMATCH": "keyfile {keyfile} is not the key of certfile {certfile}",
    "BAD_DECRYPT": "ssl_keyfile_password does not open keyfile {keyfile}",
    "No cipher can be selected.": "ciphers names no cipher that this OpenSSL has",
    "PEM lib": "certfile {certfile} or keyfile {keyfile} cannot be decoded, or "
    "ssl_keyfile_password is wrong",
}

# One file's state; None if it is not there.
_Mark: TypeAlias = tuple[int, ...] | None


class TLSError(Exception):
    """The TLS context cannot be built. Says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Files:
    """Gunicorn's settings `certfile`, `keyfile` and `ca_certs`."""

    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None

    @property
    def key(self) -> str | None:
        """The file that holds the key; a certfile may hold it, too."""
        return self.keyfile or self.certfile

    def marks(self) -> tuple[_Mark, ...]:
        """Say of each file which version of it is on disk, without reading it."""
        return tuple(_mark(path) for path in self._paths())

    def _paths(self) -> list[str]:
        return [path for path in (self.certfile, self.keyfile, self.ca_certs) if path]

    def hidden(self) -> str | None:
        """Find the first file that this process may not read, as after a `setuid()`."""
        paths = (path for path in self._paths() if not os.access(path, os.R_OK))
        return next(paths, None)

    def fault(self) -> str | None:
        """Find the first file that cannot be what its setting says it is."""
        for setting, path, content, pattern in (
            ("certfile", self.certfile, "certificate", _CERTIFICATE),
            ("keyfile" if self.keyfile else "certfile", self.key, "private key", _KEY),
            ("ca_certs", self.ca_certs, "certificate", _CERTIFICATE),
        ):
            if path is None:
                continue
            try:
                found = pattern.search(_read(path))
            except OSError as error:
                return f"{setting} {path} cannot be read by {_user()}: {error.strerror}"
            if not found:
                return f"{setting} {path} holds no {content} in PEM format"
        return None


class Certificates:
    """The context that new connections get, renewed when its files change.

    Args:
        factory: builds the context from scratch: gunicorn's `ssl_context` hook
            around `default_context`.
        files: what to watch. Files that only a hook knows are not watched; HUP
            takes those up.

    Raises:
        TLSError: the context cannot be built; the worker must not serve.

    """

    def __init__(self, factory: Callable[[], ssl.SSLContext], files: Files) -> None:
        self._factory = factory
        self._files = files
        # Before loading: a change while we load is then seen at the next beat.
        self._seen = self._tried = files.marks()
        self._watching = True
        self.context, self._server_cert = self._load()

    def watch(self) -> str | None:
        """Call when the process has the user that it keeps.

        Returns:
            None, or the file that this user may not read, which is why `refresh` will
            do nothing.

        """
        hidden = self._files.hidden()
        self._watching = hidden is None
        return hidden

    def refresh(self) -> bool:
        """Look at the files, and take them up if they changed. Call once a beat.

        Certificate and key are replaced one after the other, and a file may be
        half written: a change is acted upon when it has stood still for one beat.

        Returns:
            True if new connections get a new context from now on.

        Raises:
            TLSError: once for each change that cannot be taken up. The old context
                stays; the next change is tried again.

        """
        if not self._watching:
            return False
        marks = self._files.marks()
        settled, self._seen = marks == self._seen, marks
        if not settled or marks == self._tried:
            return False
        self._tried = marks
        self.context, self._server_cert = self._load()
        return True

    def server_cert(self, context: ssl.SSLContext) -> str | None:
        """Return the certificate that a connection of this context was shown, as PEM.

        None if that is not known: the context was replaced meanwhile, has an SNI
        callback that may have shown another one, or there is no `certfile`. (A hook
        that loads another certificate than `certfile` cannot be told from one that
        does not.)
        """
        if context is not self.context or context.sni_callback is not None:
            return None
        return self._server_cert

    def describe(self, connection: ssl.SSLObject) -> dict[str, Any]:
        """Return what `describe` does, with the certificate that the client saw."""
        return describe(connection, self.server_cert(connection.context))

    def _load(self) -> tuple[ssl.SSLContext, str | None]:
        try:
            context = self._factory()
        except TLSError:
            raise
        except Exception as error:
            raise TLSError(self._explain(error)) from error
        if not isinstance(context, ssl.SSLContext):
            raise TLSError(
                f"the ssl_context hook returned {context!r}, not an ssl.SSLContext; "
                "let it return what default_ssl_context_factory() gives"
            )
        return context, _first_certificate(self._files.certfile)

    def _explain(self, error: Exception) -> str:
        """Turn a failure of the factory into a sentence for who runs the server."""
        fault = self._files.fault()
        if fault:
            return fault
        text = f"{type(error).__name__}: {error}"
        key, certificate = self._files.key, self._files.certfile
        for reason, sentence in _REASONS.items():
            # Without a certfile, the files are the hook's, and it named them.
            if certificate and isinstance(error, ssl.SSLError) and reason in text:
                return sentence.format(keyfile=key, certfile=certificate)
        return f"the TLS context cannot be built: {text}"


def default_context(
    files: Files,
    *,
    password: str | None = None,
    cert_reqs: int = ssl.CERT_NONE,
    ciphers: str | None = None,
    alpn_protocols: Sequence[str] = (),
) -> ssl.SSLContext:
    """Build what gunicorn's default factory builds; second argument of its hook.

    Used as `cfg.ssl_context(cfg, lambda: default_context(...))`. Gunicorn's own
    factory takes no password, so that OpenSSL asks for one at the terminal and the
    worker waits for ever; and it offers HTTP/2 if gunicorn can speak it, where the
    question is whether uvicorn can. A test holds the two equal in all else.

    Args:
        files: `certfile`, `keyfile` and `ca_certs`.
        password: the option `ssl_keyfile_password`.
        cert_reqs: gunicorn's setting, as the `ssl` module's `VerifyMode`.
        ciphers: gunicorn's setting, in OpenSSL's notation.
        alpn_protocols: ALPN's names of what is spoken, preferred first.

    Raises:
        TLSError: there is no certfile, or the key needs a password.
        OSError: from the `ssl` module; `Certificates` explains it.

    """

    def answer() -> str:
        if password is not None:
            return password
        raise TLSError(
            f"keyfile {files.key} is encrypted; set the option "
            "ssl_keyfile_password, or decrypt it with `openssl pkey`"
        )

    if files.certfile is None:
        raise TLSError("certfile is not set, and the ssl_context hook needs it")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca_certs)
    context.load_cert_chain(files.certfile, files.keyfile, answer)
    context.verify_mode = ssl.VerifyMode(cert_reqs)
    if ciphers:
        context.set_ciphers(ciphers)
    if alpn_protocols:
        context.set_alpn_protocols(list(alpn_protocols))
    return context


# -- the files


def _mark(path: str) -> _Mark:
    """Identify a file's version: a rename, a symlink swap and a rewrite all show.

    The change time is in it because tools that copy a file may keep its size and
    its modification time, as certificates of one shape have the same size.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - three of them a second, no Path
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - the settings' paths are strings
        return file.read()


def _user() -> str:
    return f"uid {os.geteuid()}"


def _first_certificate(certfile: str | None) -> str | None:
    """Read the server's own certificate, which stands first in a chain."""
    if certfile is None:
        return None
    try:
        found = _ONE_CERTIFICATE.search(_read(certfile))
    except OSError:  # a hook that did not need the file
        return None
    return found[0].decode("ascii") if found else None


# -- ASGI's `tls` extension, version 0.2

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


def describe(
    connection: ssl.SSLObject, server_cert: str | None = None
) -> dict[str, Any]:
    """Fill `scope["extensions"]["tls"]`, once per connection, at its first request.

    A plain dict: without a client's certificate it costs less than a microsecond
    beside a handshake of a thousand, and with one about fifteen. A dict that fills
    itself when read would look empty to C code, such as `json`'s.

    Args:
        connection: the transport's `ssl_object`, its handshake done.
        server_cert: from `Certificates.server_cert(connection.context)`.

    Returns:
        All entries of the specification. `client_cert_error` is always None, as
        OpenSSL refuses in the handshake what it cannot verify. The chain is the
        whole one from Python 3.13 on, the client's own certificate before.

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
    # OpenSSL's id is the suite's number below a byte that says "TLS".
    return {item["name"]: item["id"] & 0xFFFF for item in context.get_ciphers()}


# -- RFC 4514: a distinguished name as a string

# Section 3's table, by the names that OpenSSL gives; other types have the same name
# in both worlds (serialNumber, emailAddress, title) or none.
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
    """Write a subject, as `getpeercert()` gives it, in RFC 4514's form.

    The most specific name comes first: `CN=ann,OU=staff,O=Example`.
    """
    return ",".join(
        "+".join(_attribute(name, value) for name, value in names)
        for names in reversed(subject)
    )


def _attribute(name: str, value: str) -> str:
    if name[0].isdigit():  # no name but an OID: section 2.4 wants BER in hex
        return f"{name}=#{_ber_utf8(value).hex()}"
    return f"{_SHORT_NAMES.get(name, name)}={_SPECIAL.sub(_escape, value)}"


def _escape(match: re.Match[str]) -> str:
    return "\\00" if match[0] == "\x00" else f"\\{match[0]}"


def _ber_utf8(value: str) -> bytes:
    """Encode a UTF8String (tag 12): the original's string type is not told."""
    content = value.encode()
    length = len(content)
    if length < 0x80:  # noqa: PLR2004 - X.690, 8.1.3: above it the length has a length
        return bytes((12, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((12, 0x80 | size)) + length.to_bytes(size, "big") + content
