"""Certificates for one test: an authority, and files as gunicorn is given them."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from .service import PATIENCE


class Certificates:
    """An authority of its own, and a server's files in *directory*."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.certfile, self.keyfile = directory / "cert.pem", directory / "key.pem"
        self.ca_certs = directory / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_certs))
        self.renew()

    @property
    def arguments(self) -> list[str]:
        """What gunicorn's command line takes for them."""
        return ["--certfile", str(self.certfile), "--keyfile", str(self.keyfile)]

    def renew(self) -> bytes:
        """Write a new certificate and its key over the old ones; return it as DER."""
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        pem = issued.cert_chain_pems[0].bytes()
        issued.private_key_pem.write_to_path(str(self.keyfile))
        self.certfile.write_bytes(pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    def encrypt(self, password: str) -> None:
        """Put a password on the key."""
        key = serialization.load_pem_private_key(self.keyfile.read_bytes(), None)
        self.keyfile.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )

    def client(self, name: str = "") -> ssl.SSLContext:
        """Return a client's context, with a certificate of its own if it has a name."""
        context = ssl.create_default_context(cafile=str(self.ca_certs))
        if name:
            # Python 3.13 refuses a certificate that names nobody beside its subject.
            self.ca.issue_cert("client.test", common_name=name).configure_cert(context)
        return context

    def connect(
        self, port: int, context: ssl.SSLContext | None = None
    ) -> ssl.SSLSocket:
        """Return a connection whose handshake is done."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        context = context or self.client()
        return context.wrap_socket(plain, server_hostname="localhost")

    def shown(self, port: int) -> bytes | None:
        """Return the certificate that a new connection is shown, as DER."""
        with self.connect(port) as connection:
            return connection.getpeercert(binary_form=True)
