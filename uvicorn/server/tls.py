"""Builds the TLS context from the `--ssl-*` settings."""

from __future__ import annotations

import logging
import os
import ssl

from uvicorn.errors import ConfigError
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.error")


def build_ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Build the TLS context. Without a certificate, return None. Raises ConfigError."""
    if not settings.ssl_certfile:
        for name in ("ssl_keyfile", "ssl_ca_certs"):
            if getattr(settings, name):
                raise ConfigError(f"{name} is given without a certificate; expected --ssl-certfile as well")
        return None
    if settings.ssl_version not in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS):
        raise ConfigError(
            f"ssl_version: expected {ssl.PROTOCOL_TLS_SERVER:d} (ssl.PROTOCOL_TLS_SERVER), "
            f"got {settings.ssl_version}; only TLS 1.2 and later are supported (RFC 8996)"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if settings.ssl_ciphers:
        try:
            context.set_ciphers(settings.ssl_ciphers)
        except ssl.SSLError:
            raise ConfigError(f"ssl_ciphers: expected names of OpenSSL ciphers, got {settings.ssl_ciphers!r}") from None
    load_certificates(context, settings)
    try:
        context.verify_mode = ssl.VerifyMode(settings.ssl_cert_reqs)
    except ValueError:
        raise ConfigError(
            f"ssl_cert_reqs: expected 0 (no client certificate), 1 (optional) or 2 (required), "
            f"got {settings.ssl_cert_reqs}"
        ) from None
    if settings.ssl_ca_certs:
        _check_file("ssl_ca_certs", settings.ssl_ca_certs)
        try:
            context.load_verify_locations(settings.ssl_ca_certs)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"ssl_ca_certs: no certificates can be read from {settings.ssl_ca_certs!r}: {error}; expected PEM"
            ) from None
    elif context.verify_mode is not ssl.CERT_NONE:
        raise ConfigError("ssl_cert_reqs asks for client certificates; expected --ssl-ca-certs as well")
    return context


def load_certificates(context: ssl.SSLContext, settings: Settings) -> None:
    """Load the certificate and its key. Raises ConfigError for invalid files."""
    _check_file("ssl_certfile", settings.ssl_certfile)
    if settings.ssl_keyfile:
        _check_file("ssl_keyfile", settings.ssl_keyfile)
    key = settings.ssl_keyfile or settings.ssl_certfile
    try:
        # First another context, so that an error does not change this one.
        for each in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), context):
            # A function, so that OpenSSL never asks for the password on the terminal.
            each.load_cert_chain(settings.ssl_certfile, key, lambda: settings.ssl_keyfile_password)
    except ssl.SSLError as error:
        what = f"the certificate {settings.ssl_certfile!r} and the key {key!r}"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{what} do not match; check --ssl-certfile and --ssl-keyfile") from None
        if not error.reason or "DECRYPT" in error.reason or "PASSWORD" in error.reason:
            hint = "may be wrong" if settings.ssl_keyfile_password else "may be missing"
            raise ConfigError(f"cannot read {what}: expected PEM; --ssl-keyfile-password {hint}") from None
        raise ConfigError(f"cannot read {what}: {error.reason}; expected PEM") from None
    except OSError as error:
        raise ConfigError(f"cannot read {settings.ssl_certfile!r} or {key!r}: {error.strerror}; expected PEM") from None


def reload_certificates(context: ssl.SSLContext, settings: Settings) -> None:
    """Load the certificates again. If a file is invalid, keep the old certificates."""
    try:
        load_certificates(context, settings)
    except ConfigError as error:
        logger.error("cannot reload certificates: %s; keeping the old certificates", error)
    else:
        logger.info("certificates reloaded")


def handshake_failure(error: ssl.SSLError) -> str:
    """Return why a TLS handshake failed, or "" if the client has disconnected."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"refused: invalid client certificate: {error.verify_message}"
    reason = error.reason or ""
    if reason == "HTTP_REQUEST":
        return "refused: plain HTTP on a port for TLS: connect to https://"
    _, alert, name = reason.partition("_ALERT_")
    text = (name or reason or "unknown reason").lower().replace("_", " ")
    return f"refused: the TLS handshake failed: {f'the client sent the alert {text!r}' if alert else text}"


def _check_file(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name}: {os.path.abspath(path)!r} cannot be read: {error.strerror}") from None
