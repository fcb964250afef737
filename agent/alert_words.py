"""How an alert, and the state of an agent, read on a terminal. Pure: what comes in and the time of day decide."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from rich.text import Text

from agent.alarms.alert import Category, Phase, Priority, State
from agent.uplink.evidence import BeatModel, EvidenceModel, parse_rfc3339_ns
from agent.uplink.messages import AlertData, AlertMessage, StatusMessage

NS_PER_S = 1_000_000_000

_SIGN = {Priority.HIGH: "!!!", Priority.MEDIUM: " !!", Priority.LOW: "  !"}
"""Priority also without colour."""
_STYLE = {Priority.HIGH: "bold white on red", Priority.MEDIUM: "bold black on yellow", Priority.LOW: "black on cyan"}
_UNITS = {
    "mg_dl_min": "mg/dL/min",
    "mg_dl": "mg/dL",
    "bpm": "bpm",
    "min": "min",
    "ms": "ms",
    "s": "s",
    "percent": "%",
    "hz": "Hz",
    "mv": "mV",
}
"""End of a value's name, where that is a unit; a longer one first."""
_INDENT = " " * 10
_OLD_S = 10.0
"""An event older than this on arrival says how old it is."""
_BEATS_SHOWN = 16
_LONGEST = 400


def render(message: AlertMessage, *, now_ns: int, zone: tzinfo | None = None, was_on: bool = False) -> Text:
    """One alert: a line with what happened to whom, and lines with since when and on which evidence.

    `now_ns` is UTC; `zone` None is the machine's own. `was_on`: the alarm was there before anybody listened.
    Raises ValueError where the message holds a time that is none.
    """
    alert = message.data
    onset_ns, decided_ns = parse_rfc3339_ns(alert.onset), parse_rfc3339_ns(alert.decided_at)
    text = Text(f"{_time(decided_ns, now_ns, zone)}  ")
    if alert.phase is Phase.END:
        text.append(f" ok over {alert.priority:<6}", "green")
    elif alert.late:
        text.append(f"    late {alert.priority:<6}", "bold magenta")
    else:
        text.append(f" {_SIGN[alert.priority]} {alert.priority.upper():<6} ", _STYLE[alert.priority])
    text.append(f"  {_plain(alert.patient)}", "bold").append(f"  {_plain(alert.text)}")
    if alert.category is Category.TECHNICAL:
        text.append("  (technical)", "dim")

    until_ns = parse_rfc3339_ns(alert.until) if alert.until else decided_ns
    facts = [_since(alert.phase, onset_ns, until_ns, now_ns, zone)]
    facts += _standing(alert)
    facts += _people(alert, now_ns, zone)
    if was_on:
        facts.append("was on before you listened")
    age_s = (now_ns - decided_ns) / NS_PER_S
    if age_s > _OLD_S:
        facts.append(f"decided {_span(age_s)} ago")
    facts.append(f"agent {_plain(message.source.rpartition('/')[2])}")
    text.append(f"\n{_INDENT}{' · '.join(facts)}", "dim")
    if alert.evidence is not None:
        beside = f"\n{_INDENT}beside it: {_plain(alert.evidence.beside)}" if alert.evidence.beside else ""
        text.append(f"\n{_INDENT}{_evidence(alert.evidence)}{beside}", "dim")
    return text


def render_status(status: StatusMessage, *, now_ns: int, zone: tzinfo | None = None) -> Text:
    """One line on an agent: loud when it is offline, since then nobody is watched."""
    text = Text(f"{_time(now_ns, now_ns, zone)}  ")
    agent = _plain(status.agent)
    reasons = "; ".join(_plain(reason) for reason in status.reasons)
    because = f": {reasons}" if reasons else ""
    if status.state == "offline":
        return text.append(f" !!! AGENT {agent} IS OFFLINE, MONITORING HAS STOPPED{because} ", "bold white on red")
    if status.state == "degraded":
        return text.append(f" agent {agent} goes on with less{because}", "bold yellow")
    return text.append(f" agent {agent} is online", "green").append(because)


def notice(words: str, style: str, *, now_ns: int, zone: tzinfo | None = None) -> Text:
    """One line from the listener itself."""
    return Text(f"{_time(now_ns, now_ns, zone)}  ").append(f" {_plain(words)} ", style)


def _standing(alert: AlertData) -> list[str]:
    """How it is with the alarm, where its phase does not go without saying."""
    if alert.late:
        return ["a report about the past, no alarm for now"]
    if alert.phase is Phase.CONTINUE:
        return ["still on"]
    return ["changed"] if alert.phase is Phase.UPDATE and alert.state is None else []


def _people(alert: AlertData, now_ns: int, zone: tzinfo | None) -> list[str]:
    """What people have done about it, and what is left to do."""
    facts = ["a drill: not real"] if alert.drill else []
    if alert.acknowledged is not None:
        facts.append(f"acknowledged by {_plain(alert.acknowledged.by)}")
    elif alert.escalation:
        facts.append(f"escalated {alert.escalation} ×: nobody has acknowledged it")
    if alert.state is State.LATCHED:
        facts.append("stays until somebody acknowledges it")
    if alert.paused is not None:
        until = _time(parse_rfc3339_ns(alert.paused.until), now_ns, zone)
        facts.append(f"paused by {_plain(alert.paused.by)} until {until}")
    if alert.verdict is not None:
        note = f" ({_plain(alert.verdict.note)})" if alert.verdict.note else ""
        facts.append(f"judged {alert.verdict.word.replace('_', ' ')} by {_plain(alert.verdict.by)}{note}")
    return facts


def _since(phase: Phase, onset_ns: int, until_ns: int, now_ns: int, zone: tzinfo | None) -> str:
    since = f"since {_time(onset_ns, now_ns, zone)}"
    if phase is Phase.END:
        return f"{since}, for {_span((until_ns - onset_ns) / NS_PER_S)}"
    return f"{since} ({_span((now_ns - onset_ns) / NS_PER_S)})"


def _evidence(evidence: EvidenceModel) -> str:
    """Beats, values and thresholds, signal quality and models in one line."""
    facts: list[str] = []
    if evidence.beats:
        facts.append("beats " + " ".join(_beat(beat) for beat in evidence.beats[-_BEATS_SHOWN:]))
    facts += [
        f"{_plain(said.task)} {_plain(said.label)} {100 * said.probability:.0f} %{' (unsure)' if said.unsure else ''}"
        for said in evidence.predictions or ()
    ]
    facts += [_value(name, value) for name, value in evidence.values.items()]
    facts.append(f"signal good for {100 * evidence.quality:.0f} % of the strip")
    if evidence.missing_s > 0:
        facts.append(f"{evidence.missing_s:.1f} s missing")
    facts += [f"model {_plain(pack.id)} {_plain(pack.sha256)[:8]}" for pack in evidence.packs]
    return " · ".join(facts)


def _beat(beat: BeatModel) -> str:
    """The beat's class; with a question mark where the model was not sure, which alone where it was not asked."""
    return _plain(beat.label) + ("?" if beat.unsure or not beat.label else "")


def _value(name: str, value: float | str) -> str:
    """ "heart_rate_bpm", 151.4 as "heart rate 151.4 bpm"."""
    shown = _plain(value) if isinstance(value, str) else f"{value:g}"
    for end, unit in _UNITS.items():
        words = name.removesuffix(f"_{end}")
        if words and words != name:
            return f"{_plain(words).replace('_', ' ')} {shown} {unit}"
    return f"{_plain(name).replace('_', ' ')} {shown}"


def _time(t_ns: int, now_ns: int, zone: tzinfo | None) -> str:
    """Local time of day, with the date where it is another day's."""
    try:
        then, now = (datetime.fromtimestamp(t // NS_PER_S, UTC).astimezone(zone) for t in (t_ns, now_ns))
    except (OverflowError, OSError) as error:
        raise ValueError(f"{t_ns} ns is no time of day") from error
    return f"{then:%H:%M:%S}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M:%S}"


def _span(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    if seconds < 0:
        return f"{_span(-seconds)} ahead of this clock"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days"


def _plain(text: str) -> str:
    """`text` without anything that could move the cursor: what comes over the network must not draw on the screen."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST])
