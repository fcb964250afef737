"""Why a broker cannot be reached or said no, in plain words."""

from __future__ import annotations

import socket
import ssl

from paho.mqtt.reasoncodes import ReasonCode


def explain_os_error(error: OSError, host: str, port: int, timeout_s: float) -> str:  # noqa: PLR0911 - a table
    """Why the socket could not be opened."""
    place = f"{host}:{port}"
    match error:
        case ConnectionRefusedError():
            return f"nothing is listening on {place}"
        case socket.gaierror():
            return f"the broker's name {host!r} cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"the certificate of the broker at {place} was not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with the broker at {place}: {error.reason or error}"
        case TimeoutError():
            return f"no answer from {place} within {timeout_s:g} s"
        case ConnectionResetError() | BrokenPipeError():
            return f"the broker at {place} closed the connection while it was being opened"
        case _:
            return f"cannot connect to {place}: {error.strerror or error}"


_REFUSED = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "wants a certificate of us, and none is configured (cert_file, key_file)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "refused us: our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "refused us: our certificate was revoked",
    "TLSV1_ALERT_UNKNOWN_CA": "refused us: it does not know who signed our certificate",
}
"""By OpenSSL's name of the alert that the broker sent."""


def explain_refusal(error: ssl.SSLError, host: str, port: int) -> str:
    """Why the broker did not accept our TLS."""
    said = _REFUSED.get(
        error.reason or "", f"refused our TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    )
    return f"the broker at {host}:{port} {said}"


def explain_connack(reason: ReasonCode, host: str, port: int, *, has_username: bool) -> str:
    """Why the broker did not let us in."""
    place = f"the broker at {host}:{port}"
    match reason.value:
        case 0x86 | 0x87 if has_username:  # bad user name or password; not authorized (mosquitto says the latter)
            return f"{place} refused the user name or password"
        case 0x86 | 0x87:
            return f"{place} wants a user name and password, and none are configured"
        case 0x85:  # client identifier not valid
            return f"{place} refused the client id"
        case _:
            return f"{place} refused the connection: {reason.getName().lower()}"


def explain_disconnect(reason: ReasonCode, host: str, port: int, *, was_said: bool) -> str:
    """Why a connection ended; `was_said`: the broker sent a DISCONNECT packet with this reason."""
    place = f"the broker at {host}:{port}"
    if not was_said:
        return f"the connection to {place} was lost"
    match reason.value:
        case 0x8B:  # server shutting down
            return f"{place} is shutting down"
        case 0x8E:  # session taken over
            return f"another client with our client id connected to {place}"
        case 0x95:  # packet too large
            return f"{place} closed the connection: a message was too large for it"
        case _:
            return f"{place} closed the connection: {reason.getName().lower()}"
