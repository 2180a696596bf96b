"""Certificates for tests: an authority of our own, what it has signed, and contexts that trust it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificates:
    """Files in `folder`: `chain` (certificate, then its issuer), `key`, `both` in one, `authority`."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.both, self.authority = folder / "both.pem", folder / "authority.pem"
        self.ca.cert_pem.write_to_path(self.authority)
        self.issue()

    def issue(self) -> None:
        """Write a new certificate, and its key, over the files."""
        leaf = self.ca.issue_cert("127.0.0.1", "localhost")
        self.chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self.key)
        leaf.private_key_and_cert_chain_pem.write_to_path(self.both)

    def client(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """A context that trusts the authority, and has a certificate of it if asked to."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if with_certificate:
            self.ca.issue_cert("client@example.org").configure_cert(context)
        return context
