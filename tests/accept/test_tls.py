"""TLS: a context whole or none, renewed on disk, and described to the app."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID, ObjectIdentifier
from gunicorn import sock as gunicorn_sock
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.service import PATIENCE
from uvworker.accept.tls import (
    Certificates,
    Files,
    TLSError,
    default_context,
)
from uvworker.accept.tls_extension import rfc4514

SHORT = 0.3  # seconds for a deadline that is to be reached
PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture
def files(ca, tmp_path):
    """Write certificate, key and CA of a server named localhost."""
    issue(ca, tmp_path)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return Files(*(str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")))


def issue(ca, directory, name="localhost"):
    """Write a new certificate and its key over the old ones."""
    issued = ca.issue_cert(name)
    issued.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    return issued.cert_chain_pems[0].bytes().decode()


def encrypt(keyfile):
    """Put a password on a key."""
    key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
    Path(keyfile).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSWORD.encode()),
        )
    )


def config(files, **settings):
    cfg = Config()
    for name in ("certfile", "keyfile", "ca_certs"):
        cfg.set(name, getattr(files, name))
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


def certificates(files, password=None, **settings):
    """Build as the worker does, with gunicorn's hook around our default."""
    cfg = config(files, **settings)

    def default():
        return default_context(
            files, password=password, cert_reqs=cfg.cert_reqs, ciphers=cfg.ciphers
        )

    return Certificates(lambda: cfg.ssl_context(cfg, default), files)


def beats(certs):
    """Let two beats pass, which is what a change needs to be taken up."""
    return [certs.refresh(), certs.refresh()].pop()


# -- built whole, or a sentence that helps


@pytest.mark.parametrize(
    "settings", [{}, {"cert_reqs": 1}, {"cert_reqs": 2, "ciphers": "ECDHE+AESGCM"}]
)
def test_context_is_as_gunicorns_own(files, settings):
    """The one thing that is written twice; it must not drift apart."""
    ours = certificates(files, **settings).context
    theirs = gunicorn_sock.ssl_context(config(files, **settings))
    for name in (
        "verify_mode",
        "verify_flags",
        "options",
        "minimum_version",
        "maximum_version",
        "check_hostname",
        "protocol",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.get_ciphers() == theirs.get_ciphers()
    assert ours.get_ca_certs() == theirs.get_ca_certs()


def test_hook_alone_is_enough(files):
    def hook(_config, _default):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certfile, files.keyfile)
        return context

    certs = certificates(Files(), ssl_context=hook)
    assert certs.context.get_ca_certs() == []
    assert certs.server_cert(certs.context) is None


def break_files(files, what):
    certfile, keyfile, ca_certs = map(
        Path, (files.certfile, files.keyfile, files.ca_certs)
    )
    if what == "missing":
        keyfile.unlink()
    elif what == "unreadable":
        certfile.chmod(0)
    elif what == "empty":
        certfile.write_bytes(b"")
    elif what == "swapped":
        certfile.write_bytes(keyfile.read_bytes())
    elif what == "mismatch":
        trustme.CA().issue_cert("x").private_key_pem.write_to_path(keyfile)
    elif what == "encrypted":
        encrypt(keyfile)
    elif what == "no ca":
        ca_certs.write_text("nothing")
    elif what == "corrupt":
        keyfile.write_text(
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        )


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("missing", "keyfile .*key.pem cannot be read by uid .*No such file"),
        ("empty", "certfile .*cert.pem has no certificate"),
        ("swapped", "certfile .*cert.pem has no certificate"),
        ("mismatch", "key.pem is not the key of certfile .*cert.pem"),
        ("encrypted", "key.pem is encrypted.*ssl_keyfile_password"),
        ("no ca", "ca_certs .*ca.pem has no certificate"),
        ("corrupt", "cert.pem or keyfile .*key.pem cannot be decoded"),
    ],
)
def test_failure_names_what_and_where(files, what, sentence):
    break_files(files, what)
    with pytest.raises(TLSError, match=sentence):
        certificates(files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_named(files):
    break_files(files, "unreadable")
    with pytest.raises(TLSError, match=r"certfile .* cannot be read .*denied"):
        certificates(files)


def test_bad_ciphers_are_named(files):
    with pytest.raises(TLSError, match="ciphers names no cipher"):
        certificates(files, ciphers="NONSENSE")


@pytest.mark.parametrize("result", [None, "raises"])
def test_failing_hook_is_named(files, result):
    def hook(_config, _default):
        if result:
            raise RuntimeError(result)

    with pytest.raises(TLSError, match=r"ssl_context hook|RuntimeError: raises"):
        certificates(files, ssl_context=hook)


# -- a key with a password


def test_encrypted_key_never_asks_at_the_terminal(files):
    """With a terminal at hand OpenSSL would ask; a worker would wait for ever."""
    encrypt(files.keyfile)
    program = (
        "import os, pty, sys; pid, terminal = pty.fork()\n"
        "if pid: sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "from uvworker.accept.tls import *\n"
        "try: default_context(Files(*sys.argv[1:]))\n"
        "except TLSError: sys.exit(42)\n"
    )
    argv = [sys.executable, "-c", program, files.certfile, files.keyfile]
    assert subprocess.run(argv, check=False, timeout=PATIENCE).returncode == 42


def test_password_opens_the_key(files):
    encrypt(files.keyfile)
    certs = certificates(files, PASSWORD, cert_reqs=1)
    assert certs.context.verify_mode is ssl.CERT_OPTIONAL


def test_password_of_a_hook_opens_the_key(files):
    """The hook may know the password where we do not."""
    encrypt(files.keyfile)

    def hook(config, _default):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config.certfile, config.keyfile, PASSWORD)
        return context

    assert certificates(files, ssl_context=hook).context


def test_wrong_password_is_named(files):
    encrypt(files.keyfile)
    with pytest.raises(TLSError, match="ssl_keyfile_password"):
        certificates(files, "x")


def test_hook_that_needs_a_certfile_says_so():
    def hook(_config, default):
        return default()

    with pytest.raises(TLSError, match="certfile is not set"):
        certificates(Files(), ssl_context=hook)


@pytest.mark.parametrize("protocols", [["h2", "http/1.1"], []])
def test_protocols_are_offered_as_given(files, protocols):
    server, client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = default_context(files, alpn_protocols=protocols).wrap_bio(
        server, client, server_side=True
    )
    asking = ssl.create_default_context()
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    asking.set_alpn_protocols(["h2"])
    theirs = asking.wrap_bio(client, server)
    for end in (theirs, ours, theirs, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert theirs.selected_alpn_protocol() == ("h2" if protocols else None)


# -- renewed on disk


def test_unchanged_files_change_nothing(files):
    certs = certificates(files)
    before = certs.context
    assert not beats(certs)
    assert certs.context is before


def test_files_out_of_sight_are_named_once_and_not_taken_for_a_renewal(files):
    certs = certificates(files)
    assert certs.watch() is None
    Path(files.keyfile).unlink()  # to root, what is missing is all that is out of sight
    assert certs.watch() == files.keyfile
    assert not beats(certs)


def test_renewed_certificate_is_taken_up(ca, files, tmp_path):
    certs = certificates(files)
    before = certs.context
    renewed = issue(ca, tmp_path)
    assert beats(certs)
    assert certs.context is not before
    assert certs.server_cert(certs.context) == renewed
    assert certs.server_cert(before) is None
    assert not beats(certs)


def test_change_waits_until_it_stands_still(ca, files, tmp_path):
    """Between certificate and key there is a moment when they do not match."""
    certs = certificates(files)
    issued = ca.issue_cert("localhost")
    Path(files.certfile).write_bytes(issued.cert_chain_pems[0].bytes())
    assert not certs.refresh()
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    assert not certs.refresh()
    assert certs.refresh()


def test_symlink_swap_is_taken_up(ca, tmp_path):
    """Kubernetes mounts a secret so: cert.pem -> ..data/cert.pem, ..data -> ..v1."""
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        issue(ca, tmp_path / version)
    (tmp_path / "..data").symlink_to("..v1")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    certs = certificates(Files(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))
    (tmp_path / "..new").symlink_to("..v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert beats(certs)
    assert (
        certs.server_cert(certs.context) == (tmp_path / "..v2" / "cert.pem").read_text()
    )


def test_rewrite_that_keeps_size_and_time_is_noticed(files):
    """Tools that copy in place keep both; here the new key does not fit."""
    certs = certificates(files)
    before = Path(files.keyfile).stat()
    break_files(files, "mismatch")
    os.utime(files.keyfile, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = Path(files.keyfile).stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert not certs.refresh()
    with pytest.raises(TLSError):
        certs.refresh()


@pytest.mark.parametrize("what", ["missing", "empty", "mismatch", "encrypted"])
def test_broken_renewal_is_reported_once_and_the_old_kept(ca, files, tmp_path, what):
    certs = certificates(files)
    before = certs.context
    break_files(files, what)
    assert not certs.refresh()
    with pytest.raises(TLSError):
        certs.refresh()
    assert not any(certs.refresh() for _ in range(3))
    assert certs.context is before
    issue(ca, tmp_path)
    assert beats(certs)
    assert certs.context is not before


# -- on real connections


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request):
    """Run a coroutine on each loop."""
    loop = request.param()
    yield lambda coroutine: loop.run_until_complete(
        asyncio.wait_for(coroutine, PATIENCE)
    )
    loop.close()


class Describer(asyncio.Protocol):
    """Describe the connection when the first byte comes, and hang up."""

    def __init__(self, certs, described):
        self.certs = certs
        self.described = described
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _error):
        self.closed.set_result(None)

    def data_received(self, _data):
        connection = self.transport.get_extra_info("ssl_object")
        self.described.set_result(self.certs.describe(connection))
        self.transport.close()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


async def accept(listener, certs, described=None, timeout=PATIENCE):
    """Accept one connection as the worker does, with the context of the moment."""
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(listener)
    describer = Describer(certs, described)
    await loop.connect_accepted_socket(
        lambda: describer,
        accepted,
        ssl=certs.context,
        ssl_handshake_timeout=timeout,
    )
    return describer  # what uvloop returns for it is its own SSL protocol


async def close(writer):
    """Close a client's end; how the other end took it is not the question."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def connect(listener, context):
    host, port = listener.getsockname()
    return await asyncio.open_connection(
        host, port, ssl=context, server_hostname="localhost"
    )


def client_context(ca, certificate=None):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if certificate:
        certificate.configure_cert(context)
    return context


async def converse(listener, certs, context):
    """Connect once; give what the app is told and the certificate that was shown."""
    described = asyncio.get_running_loop().create_future()
    accepted = asyncio.create_task(accept(listener, certs, described))
    reader, writer = await connect(listener, context)
    writer.write(b"x")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await reader.read()
    await close(writer)
    await (await accepted).closed
    return await described, ssl.DER_cert_to_PEM_cert(shown)


def test_app_is_told_of_the_connection(run, ca, files, listener):
    certs = certificates(files)
    told, shown = run(converse(listener, certs, client_context(ca)))
    assert type(told) is dict
    assert told == {
        "server_cert": shown,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,  # TLS_AES_256_GCM_SHA384, OpenSSL's first choice
    }


def test_app_is_told_of_version_and_cipher_of_tls_1_2(run, ca, files, listener):
    context = client_context(ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    told, _ = run(converse(listener, certificates(files), context))
    assert told["tls_version"] == 0x0303
    assert told["cipher_suite"] in (0xC02B, 0xC02F)


def test_app_is_told_of_the_clients_certificate(run, ca, files, listener):
    client = ca.issue_cert(
        "ann@example.org", common_name='Ånn, the "1st" ', organization_name="#A+B"
    )
    certs = certificates(files, cert_reqs=ssl.CERT_OPTIONAL)
    told, _ = run(converse(listener, certs, client_context(ca, client)))
    pem = client.cert_chain_pems[0].bytes()
    subject = x509.load_pem_x509_certificate(pem).subject
    assert told["client_cert_chain"][0] == pem.decode()
    assert told["client_cert_name"] == subject.rfc4514_string()
    assert told["client_cert_name"].startswith('CN=Ånn\\, the \\"1st\\"\\ ,')
    assert told["client_cert_error"] is None


def test_chain_is_told_where_python_can(run, ca, files, listener):
    client = ca.create_child_ca().issue_cert("ann@example.org")
    certs = certificates(files, cert_reqs=ssl.CERT_REQUIRED)
    told, _ = run(converse(listener, certs, client_context(ca, client)))
    sent = [pem.bytes().decode() for pem in client.cert_chain_pems]
    length = len(sent) if sys.version_info >= (3, 13) else 1
    assert told["client_cert_chain"] == sent[:length]


def test_renewed_certificate_is_shown_to_new_connections(
    run, ca, files, listener, tmp_path
):
    certs = certificates(files)
    _, first = run(converse(listener, certs, client_context(ca)))
    renewed = issue(ca, tmp_path)
    assert beats(certs)
    told, second = run(converse(listener, certs, client_context(ca)))
    assert first != second == renewed == told["server_cert"]


def test_old_connection_survives_a_renewal(run, ca, files, listener, tmp_path):
    certs = certificates(files)

    async def straddle():
        described = asyncio.get_running_loop().create_future()
        accepted = asyncio.create_task(accept(listener, certs, described))
        reader, writer = await connect(listener, client_context(ca))
        describer = await accepted
        issue(ca, tmp_path)
        assert beats(certs)
        writer.write(b"x")
        await reader.read()
        await close(writer)
        await describer.closed
        return await described

    told = run(straddle())
    assert told["server_cert"] is None  # not the new one, which it never saw
    assert told["tls_version"] == 0x0304


def test_garbage_on_the_port_is_one_error_and_no_more(run, files, listener):
    """The acceptor gets the one exception; the loop has nothing to add."""
    certs = certificates(files)

    async def garbage():
        loop = asyncio.get_running_loop()
        complaints = []
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        accepted = asyncio.create_task(accept(listener, certs))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await accepted
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await close(writer)
        return complaints

    assert run(garbage()) == []


def test_stalled_handshake_has_a_deadline(run, files, listener):
    certs = certificates(files)

    async def stall():
        accepted = asyncio.create_task(accept(listener, certs, timeout=SHORT))
        _reader, writer = await asyncio.open_connection(*listener.getsockname())
        with pytest.raises(OSError):  # noqa: PT011 - each loop has its own subclass
            await accepted
        await close(writer)

    run(stall())


# -- RFC 4514

# A common name has at most 64 bytes, which cryptography insists upon.
VALUES = st.text(
    st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=16
)
TYPES = [
    NameOID.COMMON_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.STREET_ADDRESS,
    NameOID.USER_ID,
]
LONG_NAMES = dict(
    zip(
        TYPES,
        [
            "commonName",
            "localityName",
            "stateOrProvinceName",
            "organizationName",
            "organizationalUnitName",
            "streetAddress",
            "userId",
        ],
        strict=True,
    )
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(TYPES), VALUES, min_size=1, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_names_are_written_as_cryptography_reads_them(names):
    written = rfc4514(
        [[(LONG_NAMES[oid], value) for oid, value in rdn.items()] for rdn in names]
    )
    read = x509.Name.from_rfc4514_string(written)
    assert read == x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(oid, value) for oid, value in rdn.items()]
            )
            for rdn in names
        ]
    )


@pytest.mark.parametrize(
    ("subject", "written"),
    [
        ((), ""),
        ([[("commonName", "a\0b")]], "CN=a\\00b"),
        ([[("commonName", " ")]], "CN=\\ "),
        ([[("domainComponent", "org")], [("domainComponent", "x")]], "DC=x,DC=org"),
        ([[("1.3.6.1.4.1.1466.0", "ab")]], "1.3.6.1.4.1.1466.0=#0c026162"),
        ([[("1.2.3", "x" * 200)]], "1.2.3=#0c81c8" + "78" * 200),
        ([[("serialNumber", "7")]], "serialNumber=7"),
    ],
)
def test_names_are_written_as_the_rfc_says(subject, written):
    assert rfc4514(subject) == written


def test_unknown_type_reaches_the_name_as_its_oid(run, ca, files, listener, tmp_path):
    """As OpenSSL names it in a real certificate: an OID of nobody's table."""
    oid = ObjectIdentifier("1.3.6.1.4.1.55555.1")
    issued = ca.issue_cert("ann@example.org")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    old = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    authority = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=x509.Name([x509.NameAttribute(oid, "ann")]),
        public_key=key.public_key(),
        serial_number=old.serial_number + 1,
        not_valid_before=old.not_valid_before_utc,
        not_valid_after=old.not_valid_after_utc,
        extensions=list(old.extensions),
    )
    pem = builder.sign(authority, hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    )
    (tmp_path / "client.pem").write_bytes(issued.private_key_pem.bytes() + pem)
    context = client_context(ca)
    context.load_cert_chain(tmp_path / "client.pem")
    certs = certificates(files, cert_reqs=ssl.CERT_REQUIRED)
    told, _ = run(converse(listener, certs, context))
    assert told["client_cert_name"] == "1.3.6.1.4.1.55555.1=#0c03616e6e"
