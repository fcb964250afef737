"""What one agent's retained status says to whoever minds two hundred of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.uplink.evidence import parse_rfc3339_ns
from agent.uplink.messages import StatusMessage, UpdateHealth
from firmware_bridge.chunk import NS_PER_S

STALE_PERIODS = 3.0
"""A status older than so many of its own periods is stale: the agent hangs, or its broker's clock does not agree."""
ASSUMED_PERIOD_S = 60.0
"""Of an agent that does not say."""
LOW_BATTERY_PERCENT = 15
LITTLE_DISK_MB = 512

_WORST_FIRST: Final = ("silent", "stale", "failed", "degraded", "low", "updating", "good")


@dataclass(frozen=True, slots=True)
class Member:
    """One agent, as its newest status has it at one moment."""

    id: str
    condition: str
    """One of: silent, stale, failed (an update), degraded, low (battery or disk), updating, good."""
    state: str
    version: str
    quiet_s: float | None
    """Since its last status; None where that does not say when it was, as a last will does not."""
    reasons: tuple[str, ...]
    update: UpdateHealth | None
    battery_percent: int | None
    """The lowest of its wearables'."""
    battery_of: str
    disk_free_mb: int | None
    last_alert_at: str | None
    runtimes: tuple[tuple[str, str], ...]
    """Model pack → what runs it."""

    def document(self) -> dict[str, Any]:
        """For programs."""
        fields = asdict(self)
        fields["runtimes"] = dict(self.runtimes)
        fields["update"] = self.update.model_dump(mode="json") if self.update is not None else None
        return fields


def member_of(status: StatusMessage, now_ns: int, last_at: str | None = None) -> Member:
    """`last_at`: when the agent spoke last, for a last will, which is written in advance."""
    at = status.at or last_at
    quiet_s = max(0.0, (now_ns - parse_rfc3339_ns(at)) / NS_PER_S) if at else None
    batteries = [(one.battery_percent, one.device) for one in status.devices if one.battery_percent is not None]
    battery, device = min(batteries, default=(None, ""))
    return Member(
        id=status.agent,
        condition=_condition(status, quiet_s, battery),
        state=status.state,
        version=status.version,
        quiet_s=quiet_s,
        reasons=tuple(status.reasons),
        update=status.update,
        battery_percent=battery,
        battery_of=device,
        disk_free_mb=status.disk_free_mb,
        last_alert_at=status.last_alert_at,
        runtimes=tuple(sorted(status.backends.items())),
    )


def _condition(status: StatusMessage, quiet_s: float | None, battery: int | None) -> str:
    if status.state == "offline":
        return "silent"
    if quiet_s is None or quiet_s > STALE_PERIODS * (status.every_s or ASSUMED_PERIOD_S):
        return "stale"
    update = status.update.state if status.update is not None else "waiting"
    if update == "failed":
        return "failed"
    if status.state == "degraded":
        return "degraded"
    disk = status.disk_free_mb
    if (battery is not None and battery < LOW_BATTERY_PERCENT) or (disk is not None and disk < LITTLE_DISK_MB):
        return "low"
    return "updating" if update in {"installing", "rolling_back"} else "good"


def worst_first(members: Iterable[Member]) -> list[Member]:
    """Silent ones before stale ones, down to the good; the longest quiet first among equals."""
    return sorted(members, key=lambda one: (_WORST_FIRST.index(one.condition), -(one.quiet_s or 0.0), one.id))
