"""TLS for a client of the broker: certificates and keys from files, or words on which of them is no good."""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsFileError(ValueError):
    """A file that is not what TLS needs; `key` is the config key that names it."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(f"{key}: {message}")


def client_context(
    ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that checks the broker's certificate and name, against `ca_file` or else the system's list.

    Raises TlsFileError when a file holds no certificate, or a key that does not belong to it, and OSError when one
    cannot be read.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as error:
            raise TlsFileError("ca_file", "holds no PEM certificate") from error
    if cert_file is not None:
        try:
            # Without a password here OpenSSL would ask for one on the terminal, which a service does not have.
            context.load_cert_chain(cert_file, key_file, password="")
        except ssl.SSLError as error:
            raise TlsFileError(*_certificate_fault(error, key_file)) from error
    return context


def _certificate_fault(error: ssl.SSLError, key_file: Path | None) -> tuple[str, str]:
    if "MISMATCH" in (error.reason or ""):
        return "key_file" if key_file is not None else "cert_file", "is not the key of this certificate"
    return "cert_file", "does not hold a PEM certificate, or its key is missing, unreadable or locked with a password"
