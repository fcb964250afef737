"""The fleet on a screen: one line that says how it stands, then a line an agent, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from agent.fleet.member import Member

_STYLES = {
    "silent": "bold white on red",
    "stale": "bold red",
    "failed": "bold red",
    "degraded": "yellow",
    "low": "yellow",
    "updating": "cyan",
    "good": "green",
}


def summary(members: Sequence[Member]) -> str:
    """Such as "200 agents: 1 silent, 3 degraded, 196 good; versions 0.2.0 (198), 0.1.0 (2)"."""
    if not members:
        return "no agents: nobody has ever said a status on this broker, or all are filtered out"
    conditions = Counter(one.condition for one in members)
    versions = Counter(one.version for one in members if one.version)
    said = ", ".join(f"{conditions[condition]} {condition}" for condition in _STYLES if conditions[condition])
    kinds = ", ".join(f"{version} ({count})" for version, count in versions.most_common())
    return f"{len(members)} agent{'s' * (len(members) != 1)}: {said}" + (f"; versions {kinds}" if kinds else "")


def table(members: Sequence[Member]) -> Table:
    """One row an agent; what an agent says is shown as it is, never taken for markup."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("agent", "is", "version", "quiet", "update", "battery", "disk", "last alert", "models on"):
        shown.add_column(column, no_wrap=True)
    shown.add_column("why")
    for one in members:
        cells = (
            one.id,
            one.version or "–",
            _age(one.quiet_s),
            _update(one),
            "–" if one.battery_percent is None else f"{one.battery_percent} % {one.battery_of}",
            "–" if one.disk_free_mb is None else f"{one.disk_free_mb / 1024:.1f} GB",
            "–" if one.last_alert_at is None else one.last_alert_at[:16].replace("T", " "),
            ", ".join(sorted({runtime for _, runtime in one.runtimes})) or "–",
            _why(one),
        )
        first, *rest = (escape(_printable(cell)) for cell in cells)
        style = _STYLES[one.condition]
        shown.add_row(first, f"[{style}]{one.condition}[/]", *rest)
    return shown


def _why(one: Member) -> str:
    detail = one.update.detail if one.update is not None else ""
    words = [*([detail] if detail else []), *one.reasons]
    return words[0] + (f" (and {len(words) - 1} more)" if len(words) > 1 else "") if words else ""


def _update(one: Member) -> str:
    if one.update is None:
        return "–"
    version = f" {one.update.version}" if one.update.version else ""
    return f"{one.update.ring}: {one.update.state.replace('_', ' ')}{version}"


def _age(quiet_s: float | None) -> str:
    if quiet_s is None:
        return "–"
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60)):
        if quiet_s >= seconds:
            return f"{quiet_s / seconds:.0f} {unit}"
    return f"{quiet_s:.0f} s"


def _printable(text: str) -> str:
    """Without what would move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
