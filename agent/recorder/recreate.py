"""An alert made again from the recording, byte for byte; or why it cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeGuard

from agent import __version__
from agent.engine import Engine
from agent.inference import Models
from agent.patient import Person
from agent.recorder.ring import segment_files
from agent.recorder.segment import Head, Mark, Record, Segment, SegmentError, Tick, read_segment
from agent.unpickle import unpickle
from agent.uplink.evidence import rfc3339
from agent.uplink.messages import canonical_json

Said = Mapping[tuple[str, int], bytes]
"""The events of one alert, by phase and stream time of the decision, as canonical JSON."""
_DIFFERENCES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """What the config says today, to be compared with then."""

    person: Person | None
    """With their limits and settings; None of somebody who is not in it."""
    mains_hz: float
    late_after_s: float


@dataclass(frozen=True, slots=True)
class Recreated:
    """What became of it."""

    events: tuple[tuple[str, int, bool], ...]
    """(phase, stream time, whether it came again to the byte) of each event that was said."""
    reasons: tuple[str, ...]
    """Why something differs, in words; empty where nothing does."""
    notes: tuple[str, ...] = ()
    """What has changed since, with no say in this: it was made again as of then."""

    @property
    def is_same(self) -> bool:
        return bool(self.events) and all(same for _, _, same in self.events)


def segments_about(folder: Path, patient: str, alert_id: str, events: Iterable[tuple[str, int]]) -> list[Segment]:
    """The files in which the events of an alert are marked, oldest first.

    Those begun shortly before an event are read first, and no more than it takes to find all; a recording that was
    played again has times of its own, and then all files are read.
    """
    missing = set(events)
    times_ns = [at_ns for _, at_ns in missing]
    found: list[Segment] = []
    for path in sorted(segment_files(folder, patient), key=lambda path: _distance_ns(int(path.stem), times_ns)):
        if not missing:
            break
        try:
            segment = read_segment(path)
        except (SegmentError, FileNotFoundError):  # torn before its head, or given way meanwhile
            continue
        marks = {(mark.phase, mark.at_ns) for mark in segment.records if _is_about(mark, alert_id)}
        if marks & missing:
            found.append(segment)
            missing -= marks
    return sorted(found, key=lambda segment: segment.path.name)


def _distance_ns(began_ns: int, times_ns: Iterable[int]) -> int:
    return min((at_ns - began_ns if at_ns >= began_ns else 10 * (began_ns - at_ns) for at_ns in times_ns), default=0)


def _is_about(record: Record, alert_id: str) -> TypeGuard[Mark]:
    return isinstance(record, Mark) and record.alert_id == alert_id


def recreate(segments: Sequence[Segment], alert_id: str, said: Said, models: Models, now: Settings | None) -> Recreated:
    """Step over the recording again and compare with what was `said`. `models`, `now`: those of today."""
    again: dict[tuple[str, int], bytes] = {}
    reasons: list[str] = []
    notes: list[str] = []
    for segment in segments:
        person = _person(segment.head)
        if person is None:
            reasons += _state_reasons(segment.head, models)
            if now is None or now.person is None:
                continue
            seen = (chunk.stream for record in segment.records if isinstance(record, Tick) for chunk in record.chunks)
            person = replace(now.person, streams=tuple(dict.fromkeys(seen)))
        engine = Engine([person], models, mains_hz=segment.head.mains_hz, late_after_s=segment.head.late_after_s)
        if not engine.restore(person.id, segment.head.state):
            reasons += _state_reasons(segment.head, models)
        again |= _events(engine, segment, alert_id)
        notes += _changes(segment.head, person, now)
    events = tuple((phase, at_ns, again.get((phase, at_ns)) == text) for (phase, at_ns), text in said.items())
    if all(same for _, _, same in events) and segments:
        return Recreated(events, (), tuple(dict.fromkeys([*notes, *reasons])))
    for segment in segments:
        reasons += _runtime_reasons(segment.head, models)
    reasons += _differences(said, again, segments, alert_id)
    return Recreated(events, tuple(dict.fromkeys(reasons)), tuple(dict.fromkeys(notes)))


def _events(engine: Engine, segment: Segment, alert_id: str) -> dict[tuple[str, int], bytes]:
    """The events about the alert, up to where it was last marked."""
    last = max(k for k, record in enumerate(segment.records) if _is_about(record, alert_id))
    return {
        (event.phase.value, event.at_ns): canonical_json(event)
        for record in segment.records[:last]
        if isinstance(record, Tick)
        for event in engine.step(record.chunks, record.now_ns)
        if event.alert_id == alert_id
    }


def _person(head: Head) -> Person | None:
    try:
        person = unpickle(head.person)
    except Exception:  # whatever another version's pickle raises, it does not fit
        return None
    return person if isinstance(person, Person) else None


def _state_reasons(head: Head, models: Models) -> list[str]:
    """Why the state of then does not fit today."""
    reasons = []
    if head.version != __version__:
        reasons.append(f"version changed: {head.version} then, {__version__} now")
    here = models.identity
    for task in sorted({*head.packs, *here}):
        then, now = head.packs.get(task), here.get(task)
        if then != now:
            reasons.append(f"pack changed: {task} {_pack(then)} then, {_pack(now)} now")
    why = "; ".join(reasons) or "the state of then cannot be read by this version"
    return [
        *(reasons or [why]),
        "what was learned of the person by then is missing: begun afresh where the file begins",
    ]


def _pack(identity: tuple[str, str] | None) -> str:
    return "none" if identity is None else f"{identity[0]} {identity[1][:12]}"


def _runtime_reasons(head: Head, models: Models) -> list[str]:
    here = {task: model.runtime for task, model in models.by_task.items()}
    return [
        f"runtime changed: {task} on {then} then, on {here[task]} now"
        for task, then in head.runtimes.items()
        if task in here and here[task] != then
    ]


def _changes(head: Head, then: Person, now: Settings | None) -> list[str]:
    """What the config says otherwise today."""
    if now is None:
        return []
    changes = [
        f"{name} was {was}, is {is_now} in the config of today: made again with {was}"
        for name, was, is_now in (
            ("mains_hz", head.mains_hz, now.mains_hz),
            ("late_after_s", head.late_after_s, now.late_after_s),
        )
        if was != is_now
    ]
    if now.person is None:
        return [*changes, f"{then.id} is not in the config of today"]
    for part in ("limits", "glucose"):
        before, after = getattr(then, part), getattr(now.person, part)
        if repr(before) != repr(after):
            what = ", ".join(_fields_changed(before, after)) or "changed"
            changes.append(f"{part} changed since ({what}): made again with those of then")
    return changes


def _fields_changed(before: Any, after: Any) -> list[str]:
    try:
        names = [field.name for field in fields(before)]
    except TypeError:
        return []
    return [
        f"{name} {getattr(before, name)!r} → {getattr(after, name)!r}"
        for name in names
        if repr(getattr(before, name)) != repr(getattr(after, name))
    ]


def _differences(said: Said, again: Said, segments: Sequence[Segment], alert_id: str) -> list[str]:
    out = []
    marked = {(record.phase, record.at_ns) for one in segments for record in one.records if _is_about(record, alert_id)}
    for (phase, at_ns), text in said.items():
        made = again.get((phase, at_ns))
        if made is None and (phase, at_ns) not in marked:
            out.append(f"the recording is incomplete: its {phase} at {rfc3339(at_ns)} is in none of the files")
        elif made is None:
            out.append(f"its {phase} at {rfc3339(at_ns)} did not come again")
        elif made is not None and made != text:
            paths = list(_paths("", json.loads(text)["data"], json.loads(made)["data"]))
            out += [f"its {phase} differs: {path}" for path in paths[:_DIFFERENCES_SHOWN]]
    return out


def _paths(path: str, then: Any, now: Any) -> Iterable[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            yield from _paths(f"{path}.{key}" if path else key, then.get(key), now.get(key))
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _paths(f"{path}[{place}]", one, other)
    elif then != now:
        yield f"{path} {_shown(then)} then, {_shown(now)} now"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
