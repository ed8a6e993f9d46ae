"""TLS: the context, and its renewal when the files change.

The context is built by a factory (gunicorn's, passed in); each new connection reads
`Certificates.context`. Rules: a context is replaced only by one that was built
completely; nothing here prompts at a terminal; a failure is a `TLSError` that names the
file and says what to do.
"""

from __future__ import annotations

import calendar
import os
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .tls_extension import describe

# Two round trips and some arithmetic; long enough for a bad mobile link. asyncio's
# own default of 60 s would let stalled handshakes hold a worker's connections.
HANDSHAKE_TIMEOUT = 10.0  # seconds

# What the files must contain.
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN (?:\w+ )*PRIVATE KEY-----")
_ONE_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[\w\s+/=]+-----END CERTIFICATE-----\n?"
)

# OpenSSL's reasons that are hard to understand, and what they mean.
_REASONS = {
    "KEY_VALUES_MISMATCH": "keyfile {keyfile} is not the key of certfile {certfile}",
    "BAD_DECRYPT": "ssl_keyfile_password does not open keyfile {keyfile}",
    "No cipher can be selected.": "ciphers names no cipher that this OpenSSL has",
    "PEM lib": "certfile {certfile} or keyfile {keyfile} cannot be decoded, or "
    "ssl_keyfile_password is wrong",
}

# DER, the encoding of a certificate: tags, and the largest length in one byte.
_VERSION, _UTC_TIME = 0xA0, 0x17
_LONGEST_SHORT = 0x7F

# The version of a file on disk; None if it does not exist.
_Mark: TypeAlias = tuple[int, ...] | None


class TLSError(Exception):
    """The TLS context cannot be built: why, in which file, and what to do."""


@dataclass(frozen=True, slots=True)
class Files:
    """Gunicorn's settings `certfile`, `keyfile` and `ca_certs`."""

    certfile: str | None = None
    keyfile: str | None = None
    ca_certs: str | None = None

    @property
    def key(self) -> str | None:
        """The file with the key, which may be the certfile."""
        return self.keyfile or self.certfile

    def marks(self) -> tuple[_Mark, ...]:
        """Return the version of each file on disk, without reading the files."""
        return tuple(_mark(path) for path in self._paths())

    def _paths(self) -> list[str]:
        return [path for path in (self.certfile, self.keyfile, self.ca_certs) if path]

    def hidden(self) -> str | None:
        """Return the first file that this process may not read, if there is one."""
        paths = (path for path in self._paths() if not os.access(path, os.R_OK))
        return next(paths, None)

    def fault(self) -> str | None:
        """Say which file cannot be read, or does not contain what it should."""
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
                return f"{setting} {path} has no {content} in PEM format"
        return None


class Certificates:
    """The context that new connections get, renewed when its files change.

    Args:
        factory: builds the context from scratch: gunicorn's `ssl_context` hook
            around `default_context`.
        files: what to watch. Files that only a hook reads are not watched; HUP reloads
            those.

    Raises:
        TLSError: the context cannot be built; the worker must not serve.

    """

    def __init__(self, factory: Callable[[], ssl.SSLContext], files: Files) -> None:
        self._factory = factory
        self._files = files
        # Before loading, so that a change while we load is noticed at the next beat.
        self._seen = self._tried = files.marks()
        self._watching = True
        self.context, self._server_cert = self._load()

    def watch(self) -> str | None:
        """Start watching the files; call it when the process has its final user.

        Returns:
            None, or a file that this user may not read. Then `refresh` does nothing.

        """
        hidden = self._files.hidden()
        self._watching = hidden is None
        return hidden

    def refresh(self) -> bool:
        """Build a new context if the files have changed. Call it once a beat.

        Certificate and key are replaced one after the other, and a file may be half
        written. So a change is used only if there was no other for one beat.

        Returns:
            True if new connections get a new context from now on.

        Raises:
            TLSError: once for each change that cannot be used. The old context
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

    @property
    def expires(self) -> int | None:
        """When the `certfile`'s first certificate expires, in seconds since the epoch.

        None without a `certfile`. (A hook that loads another one is not noticed.)
        """
        return _expiry(self._server_cert) if self._server_cert else None

    def server_cert(self, context: ssl.SSLContext) -> str | None:
        """Return the certificate that a connection of this context was shown, as PEM.

        None if that is unknown: the context has been replaced, or has an SNI callback
        that may choose another certificate, or there is no `certfile`. (If a hook loads
        another certificate than `certfile`, this is not noticed.)
        """
        if context is not self.context or context.sni_callback is not None:
            return None
        return self._server_cert

    def describe(self, connection: ssl.SSLObject) -> dict[str, Any]:
        """Return ASGI's `tls` extension, with the certificate that the client saw."""
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
                "return what default_ssl_context_factory() returns"
            )
        return context, _first_certificate(self._files.certfile)

    def _explain(self, error: Exception) -> str:
        """Return a sentence for the operator about an exception of the factory."""
        fault = self._files.fault()
        if fault:
            return fault
        text = f"{type(error).__name__}: {error}"
        key, certificate = self._files.key, self._files.certfile
        for reason, sentence in _REASONS.items():
            # Without a certfile, the hook chose the files.
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
    """Return the context that gunicorn's default factory builds, for its hook.

    Used as `cfg.ssl_context(cfg, lambda: default_context(...))`. Gunicorn's own factory
    takes no password, so that OpenSSL would prompt at the terminal and the worker would
    wait for ever; and it offers HTTP/2 if gunicorn supports it, whether uvicorn does or
    not. A test compares the two in everything else.

    Args:
        files: `certfile`, `keyfile` and `ca_certs`.
        password: the option `ssl_keyfile_password`.
        cert_reqs: gunicorn's setting, as the `ssl` module's `VerifyMode`.
        ciphers: gunicorn's setting, in OpenSSL's notation.
        alpn_protocols: ALPN's names of the protocols, preferred first.

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
    """Identify a file's version, which a rename, a symlink swap or a rewrite changes.

    It includes the change time: a tool that copies a file may keep its modification
    time, and similar certificates have the same size.
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
    """Read the server's own certificate, which is the first in a chain."""
    if certfile is None:
        return None
    try:
        found = _ONE_CERTIFICATE.search(_read(certfile))
    except OSError:  # a hook that did not need the file
        return None
    return found[0].decode("ascii") if found else None


def _expiry(pem: str) -> int | None:
    """Return `notAfter` of a certificate: RFC 5280 section 4.1.

    `ssl` shows the dates of a peer's certificate only, and only once it is verified.
    """
    try:
        certificate, _ = _element(ssl.PEM_cert_to_DER_cert(pem))
        fields, _ = _element(certificate)
        if fields[0] == _VERSION:
            _, fields = _element(fields)
        for _ in ("serialNumber", "signature", "issuer"):
            _, fields = _element(fields)
        validity, _ = _element(fields)
        _, not_after = _element(validity)
        date, _ = _element(not_after)
        digits = date.decode("ascii").rstrip("Z")
        if not_after[0] == _UTC_TIME:
            digits = ("19" if digits >= "50" else "20") + digits
        return calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%S"))
    except (ValueError, IndexError):
        return None


def _element(der: bytes) -> tuple[bytes, bytes]:
    """Return the content of the first element of *der*, and what follows it."""
    size, start = der[1], 2
    if size > _LONGEST_SHORT:
        start += size - _LONGEST_SHORT - 1
        size = int.from_bytes(der[2:start], "big")
    return der[start : start + size], der[start + size :]
