"""[web]: where a machine may read how the agent is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config.reader import TableReader
from agent.config.schema import Table


def _address(value: str) -> str:
    """`value`, if it is HOST:PORT; raises ValueError otherwise."""
    host, _, port = value.rpartition(":")
    if not host.strip("[]") or not port.isdigit() or not 0 <= int(port) < 65536:
        raise ValueError('must be HOST:PORT, such as "127.0.0.1:9108"')
    return value


class WebTable(Table):
    """`/metrics` for Prometheus and `/healthz`, over plain HTTP and open to whoever reaches the address.

    Nothing listens without this table.
    """

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:9108",
        title="Address",
        description="HOST:PORT. With another host than 127.0.0.1 the whole net may read pseudonyms and alarms' names: "
        "do so only behind a firewall or a proxy. Each further worker listens at the next port up.",
    )


@dataclass(frozen=True, slots=True)
class WebConfig:
    """[web]"""

    host: str
    port: int


def read_web(read: TableReader, raw: object) -> WebConfig | None:
    """What [web] says; None, with the faults noted, where it cannot be."""
    table = read.table(WebTable, raw, ("web",))
    if table is None:
        return None
    host, _, port = table.listen.rpartition(":")
    return WebConfig(host.strip("[]"), int(port))
