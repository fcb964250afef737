"""An alert in words: what, since when, what became of it, what it rested on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agent.alerts.kept import KeptAlert, Suppressed
from agent.intervals import Intervals
from agent.uplink.evidence import EvidenceModel
from agent.uplink.messages import RESEARCH_NOTE, AlertMessage
from firmware_bridge.chunk import NS_PER_S

_BEATS_SHOWN = 24


def listed(alerts: Sequence[KeptAlert]) -> str:
    """A line an alert; times are UTC."""
    if not alerts:
        return "no alert is kept of this time\n"
    return "".join(
        f"{utc(one.first.at_ns)}  {one.id[:8]}  {plain(one.patient)}  {one.priority:6}  {_became(one)}  "
        f"{plain(one.first.text)}\n"
        for one in alerts
    )


def listed_suppressed(rows: Sequence[Suppressed]) -> str:
    """A line for each alarm that was held back."""
    if not rows:
        return "no alarm was held back in this time\n"
    return "".join(f"{utc(one.t_ns)}  {plain(one.patient)}  {one.rule}  {plain(one.reason)}\n" for one in rows)


def shown(alert: KeptAlert, message: AlertMessage | None, intervals: Intervals | None = None) -> str:
    """All that is kept of one alert; `message`: the event with its evidence."""
    lines = [
        plain(alert.first.text),
        f"  patient {plain(alert.patient)} · {alert.rule} · {alert.priority} · {alert.category} · id {alert.id}",
        f"  since {utc(alert.onset_ns)} UTC{_for(alert)}",
        "",
    ]
    for one in alert.transitions:
        late = "  late: a report about the past" if one.late else ""
        lines.append(f"  {utc(one.at_ns)}  {one.phase:8}  {plain(one.text)}{late}")
    lines += [f"  {line}" for line in _people(alert)]
    evidence = message.data.evidence if message is not None else None
    lines += ["", *(f"  {line}" for line in (["no evidence is kept"] if evidence is None else _evidence(evidence)))]
    if intervals is not None:
        lines.append(f"  intervals: {intervals.words()}")
    return "\n".join([*lines, "", f"  {RESEARCH_NOTE}"]) + "\n"


def as_json(alert: KeptAlert) -> dict[str, Any]:
    """The same for programs, without the evidence."""
    attention = alert.attention
    return {
        "alert_id": alert.id,
        "patient": alert.patient,
        "rule": alert.rule,
        "category": alert.category,
        "priority": alert.priority,
        "onset_ns": alert.onset_ns,
        "late": alert.is_late,
        "held_back": alert.held_back or None,
        "text": alert.first.text,
        "transitions": [
            {"at_ns": one.at_ns, "phase": one.phase, "late": one.late, "text": one.text} for one in alert.transitions
        ],
        "acknowledged": attention
        and attention.acknowledged_by
        and {"by": attention.acknowledged_by, "at_ns": attention.acknowledged_ns},
        "escalation": attention.escalation if attention else 0,
        "verdict": attention
        and attention.verdict
        and {
            "word": attention.verdict,
            "note": attention.note,
            "by": attention.verdict_by,
            "at_ns": attention.verdict_ns,
        },
    }


def shown_as_json(alert: KeptAlert, message: AlertMessage | None, intervals: Intervals | None = None) -> str:
    """One alert with its evidence."""
    evidence = message.data.evidence if message is not None else None
    kept = as_json(alert) | {"evidence": evidence and evidence.model_dump(mode="json", exclude_none=True)}
    if intervals is not None:
        kept |= {"intervals": intervals.values() | {"beats": intervals.beats}}
    return json.dumps(kept, ensure_ascii=False)


def utc(t_ns: int) -> str:
    at = datetime.fromtimestamp(t_ns // NS_PER_S, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{t_ns % NS_PER_S // 1_000_000:03d}"


def plain(text: str) -> str:
    """`text` without anything that could move the cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _became(alert: KeptAlert) -> str:
    attention = alert.attention
    if alert.held_back:
        return f"{'held back':14}"
    if attention is not None and attention.verdict:
        return f"{attention.verdict.replace('_', ' '):14}"
    if attention is not None and attention.acknowledged_by:
        return f"{'acknowledged':14}"
    if alert.is_late:
        return f"{'late':14}"
    return f"{'on' if alert.end is None else 'over':14}"


def _for(alert: KeptAlert) -> str:
    end = alert.end
    if end is None:
        return ", not known to be over"
    return f", for {((end.until_ns or end.at_ns) - alert.onset_ns) / NS_PER_S:.0f} s"


def _people(alert: KeptAlert) -> list[str]:
    attention = alert.attention
    if alert.held_back:
        return [f"never sent: {plain(alert.held_back)}"]
    if attention is None:
        return ["nobody has acknowledged or judged it"]
    lines = []
    if attention.escalation:
        lines.append(f"escalated {attention.escalation} time(s)")
    if attention.acknowledged_by and attention.acknowledged_ns is not None:
        after_s = (attention.acknowledged_ns - alert.first.at_ns) / NS_PER_S
        lines.append(f"acknowledged by {plain(attention.acknowledged_by)}, {after_s:.0f} s after it was raised")
    if attention.verdict:
        note = f": {plain(attention.note)}" if attention.note else ""
        word = attention.verdict.replace("_", " ")
        lines.append(f"judged {word} by {plain(attention.verdict_by or '?')}{note}")
    return lines


def _evidence(evidence: EvidenceModel) -> list[str]:
    strip = evidence.strip
    n = len(strip.samples[0]) if strip.samples else 0
    what = f"{n / strip.rate_hz:.1f} s at {strip.rate_hz:g} Hz" if strip.rate_hz else f"{n} readings"
    names = ", ".join(filter(None, strip.channels))
    missing = f", {evidence.missing_s:.1f} s missing" if evidence.missing_s else ""
    quality = f"signal good for {100 * evidence.quality:.0f} % of it{missing}"
    lines = [f"strip: {what}{f' ({plain(names)})' if names else ''} from {plain(strip.t0)}, {quality}"]
    if strip.left_out:
        lines.append(f"left out of it: {plain(strip.left_out)}")
    if evidence.beats:
        beats = " ".join((beat.label or "?") + ("?" if beat.unsure else "") for beat in evidence.beats[-_BEATS_SHOWN:])
        lines.append(f"beats: {plain(beats)}")
    if evidence.values:
        values = (
            f"{name} {value if isinstance(value, str) else f'{value:g}'}" for name, value in evidence.values.items()
        )
        lines.append(f"values: {plain(', '.join(values))}")
    for said in evidence.predictions or ():
        unsure = ", unsure" if said.unsure else ""
        lines.append(f"model {plain(said.task)}: {plain(said.label)} {100 * said.probability:.0f} %{unsure}")
    lines += [
        f"expected in {one.minutes} min: {one.value:g} ({one.low:g} to {one.high:g})" for one in evidence.expected or ()
    ]
    lines += [f"pack {plain(pack.id)} sha256 {plain(pack.sha256)}" for pack in evidence.packs]
    return lines
