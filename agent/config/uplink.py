"""To whom beside the subscribers of the broker the agent speaks, as the config says it."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.reader import TableReader
from agent.config.schema import FileName, Table
from agent.config.source_schema import web_address
from agent.tls import TlsFileError, client_context
from agent.uplink.webhook import Receiver, read_secret


def _receiver_address(value: str) -> str:
    web_address(value)
    try:
        parts = urllib.parse.urlsplit(value)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError("must have a host, and a port from 1 to 65535 where it names one")
    if not value.isascii() or not value.isprintable():
        raise ValueError("must be plain ASCII: write other characters as %xx, a host name as xn--…")
    return value


def _prefix(value: str) -> str:
    if not value or value.startswith("/") or value.endswith("/") or any(c in value for c in "+#\0"):
        raise ValueError("must be a topic without / at its ends and without + or #")
    return value


class HomeAssistantTable(Table):
    """Shows everybody who is watched in Home Assistant. Without this table it is told nothing."""

    enabled: bool = Field(
        True, title="On", description="false takes away what was put there, at the next start of the agent."
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "homeassistant", title="Discovery prefix", description="As in Home Assistant's own MQTT settings."
    )


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """[home_assistant]"""

    enabled: bool = False
    prefix: str = "homeassistant"


class WebhookTable(Table):
    """Every event of an alert is also sent to an address of the web, signed. Without this table there is none."""

    url: Annotated[str, AfterValidator(_receiver_address)] = Field(
        title="Address",
        description="Where to post to, `https://…`; `http://` only inside one house. A redirection is not followed.",
    )
    secret_file: FileName = Field(
        title="File with the secret",
        description="File whose first line is `whsec_` and base64 of 24 to 64 random bytes; the receiver has it too.",
    )
    ca_file: FileName | None = Field(
        None,
        title="Certificate authority",
        description="PEM file of the authority that signed the receiver's certificate; without it, the system's list.",
    )
    timeout_s: float = Field(
        10.0, ge=1, le=60, title="Patience", description="Seconds to wait for each step of one delivery."
    )
    max_mb: int = Field(
        64,
        ge=1,
        le=10_000,
        title="Size",
        description="Megabytes of alerts kept for a receiver that is away; past it the least urgent and oldest go, "
        "which is an alarm.",
    )


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """[webhook]"""

    url: str
    key: bytes
    secret_file: Path
    """Where `key` came from."""
    ca_file: Path | None = None
    timeout_s: float = 10.0
    max_mb: int = 64

    def receiver(self) -> Receiver:
        """Raises TlsFileError or OSError where `ca_file` has changed since the start."""
        return Receiver(self.url, self.key, client_context(self.ca_file), self.timeout_s)

    def __repr__(self) -> str:
        return f"WebhookConfig({self.url!r})"


def read_home_assistant(read: TableReader, raw: object) -> HomeAssistantConfig:
    """What [home_assistant] says."""
    table = read.table(HomeAssistantTable, raw, ("home_assistant",))
    return HomeAssistantConfig(table.enabled, table.prefix) if table is not None else HomeAssistantConfig()


def read_webhook(read: TableReader, raw: object) -> WebhookConfig | None:
    """What [webhook] says; None, with the faults noted, where it cannot be."""
    noted = len(read.faults)
    table = read.table(WebhookTable, raw, ("webhook",))
    if table is None:
        return None
    file = read.readable(table.secret_file, ("webhook", "secret_file"))
    secret = None if file is None else read.first_line(file, ("webhook", "secret_file"), "secret")
    ca_file = read.readable(table.ca_file, ("webhook", "ca_file"))
    key = b""
    try:
        key = read_secret(secret) if secret is not None else b""
        if ca_file is not None:
            client_context(ca_file)
    except TlsFileError as error:
        read.fault(("webhook", error.key), error.message)
    except ValueError as error:
        make = 'make one: echo "whsec_$(openssl rand -base64 32)" > FILE'
        read.fault(("webhook", "secret_file"), f"its first line {error}", make)
    if file is None or len(read.faults) > noted:
        return None
    return WebhookConfig(table.url, key, file, ca_file, table.timeout_s, table.max_mb)
