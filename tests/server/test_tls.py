"""The TLS context of the `--ssl-*` settings, and the errors for unusable ones."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.certificates import Certificates
from uvicorn.errors import ConfigError
from uvicorn.keywords import build_settings
from uvicorn.server.tls import build_ssl_context, load_certificates
from uvicorn.settings import Settings


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def encrypt(key: Path, password: bytes) -> None:
    private = load_pem_private_key(key.read_bytes(), None)
    assert hasattr(private, "private_bytes")
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(password))
    )


def context_of(**settings: Any) -> ssl.SSLContext:
    context = build_ssl_context(
        build_settings({name: str(value) if isinstance(value, Path) else value for name, value in settings.items()})
    )
    assert context is not None
    return context


def test_ssl_context_is_built_only_if_the_settings_contain_a_certificate() -> None:
    assert build_ssl_context(Settings()) is None


def test_D15_tls_versions_below_1_2_are_rejected(made: Certificates) -> None:
    assert context_of(ssl_certfile=made.both).minimum_version is ssl.TLSVersion.TLSv1_2


def test_D15_renegotiation_is_off(made: Certificates) -> None:
    assert context_of(ssl_certfile=made.both).options & ssl.OP_NO_RENEGOTIATION


def test_key_in_a_separate_file_is_read(made: Certificates) -> None:
    context_of(ssl_certfile=made.chain, ssl_keyfile=made.key)


def test_a_key_with_a_password_is_read(made: Certificates) -> None:
    encrypt(made.key, b"secret")
    context_of(ssl_certfile=made.chain, ssl_keyfile=made.key, ssl_keyfile_password="secret")


@pytest.mark.parametrize(("password", "advice"), [("", "may be missing"), ("wrong", "may be wrong")])
def test_a_wrong_tls_key_password_is_reported(made: Certificates, password: str, advice: str) -> None:
    encrypt(made.key, b"secret")
    with pytest.raises(ConfigError, match=f"--ssl-keyfile-password {advice}"):
        context_of(ssl_certfile=made.chain, ssl_keyfile=made.key, ssl_keyfile_password=password)


def test_a_tls_key_of_a_different_certificate_is_reported(made: Certificates) -> None:
    chain = made.chain.read_bytes()
    made.issue()
    made.chain.write_bytes(chain)
    with pytest.raises(ConfigError, match="do not match"):
        context_of(ssl_certfile=made.chain, ssl_keyfile=made.key)


@pytest.mark.parametrize("name", ["ssl_certfile", "ssl_keyfile", "ssl_ca_certs"])
def test_error_for_a_missing_tls_file_names_the_file(made: Certificates, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: '/nowhere/at.all' cannot be read: No such file"):
        context_of(**{"ssl_certfile": made.both, name: "/nowhere/at.all"})


def test_a_certificate_without_its_key_is_reported(made: Certificates) -> None:
    with pytest.raises(ConfigError, match="expected PEM"):
        context_of(ssl_certfile=made.chain)


@pytest.mark.parametrize("name", ["ssl_certfile", "ssl_ca_certs"])
def test_a_certificate_file_that_is_not_pem_is_reported(made: Certificates, tmp_path: Path, name: str) -> None:
    (tmp_path / "text").write_text("Hello")
    with pytest.raises(ConfigError, match=r"text.*expected PEM"):
        context_of(**{"ssl_certfile": made.both, name: tmp_path / "text"})


@pytest.mark.parametrize("name", ["ssl_keyfile", "ssl_ca_certs"])
def test_tls_setting_without_a_certificate_is_rejected(made: Certificates, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is given without a certificate"):
        build_ssl_context(build_settings({name: str(made.key)}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ssl_version", 3, "expected 16|expected 17"),
        ("ssl_ciphers", "NONSENSE", "expected names of OpenSSL ciphers, got 'NONSENSE'"),
        ("ssl_cert_reqs", 7, "expected 0 .* got 7"),
        ("ssl_cert_reqs", 2, "expected --ssl-ca-certs"),
    ],
)
def test_invalid_tls_values_are_reported(made: Certificates, name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        context_of(**{"ssl_certfile": made.both, name: value})


def test_ssl_cert_reqs_2_requires_a_client_certificate(made: Certificates) -> None:
    context = context_of(ssl_certfile=made.both, ssl_cert_reqs=2, ssl_ca_certs=made.authority)
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_ssl_ciphers_setting_selects_the_ciphers(made: Certificates) -> None:
    context = context_of(ssl_certfile=made.both, ssl_ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    old = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert old == {"ECDHE-RSA-AES128-GCM-SHA256"}


def test_old_certificates_stay_in_use_if_the_new_certificates_are_invalid(made: Certificates) -> None:
    context = context_of(ssl_certfile=made.both)
    made.both.write_text("Hello")
    with pytest.raises(ConfigError):
        load_certificates(context, Settings(ssl_certfile=str(made.both)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = made.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    server = context.wrap_bio(outgoing, incoming, server_side=True)
    for _ in range(3):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert client.getpeercert()
