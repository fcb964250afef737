"""Numbers for display: what each person's sensors say now, and how their days went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.alarms.technical import silence_deadline_s
from agent.glucose_state import GlucoseState
from agent.ingest.device_status import DeviceStatus
from agent.patient import PatientState
from agent.signal.outlook import Glucose, Outlook
from agent.signal.track import EcgTrack
from agent.uplink.evidence import expected_models, rfc3339
from agent.uplink.messages import Trend, VitalMessage
from firmware_bridge.chunk import NS_PER_S

RATE_HOLDS_NS = 4 * NS_PER_S
"""A heart rate is shown no longer than this after the last beat."""
DAY_S = 86_400
DAYS = 14
DAILY = {
    "time_in_range": "in_range_percent",
    "time_below_70": "below_70_percent",
    "time_above_180": "above_180_percent",
    "glucose_cv": "cv_percent",
    "gmi": "gmi_percent",
    "gri": "gri",
}
"""Vital by its measure of the days: shares of time, variation, glucose management indicator, glycaemia risk index."""
TRENDS: tuple[tuple[float, Trend], ...] = (
    (3.0, "rising_quickly"),
    (2.0, "rising"),
    (1.0, "rising_slightly"),
    (-1.0, "steady"),
    (-2.0, "falling_slightly"),
    (-3.0, "falling"),
)
"""(mg/dL a minute above which, word); below them all it is falling quickly."""


@dataclass(frozen=True, slots=True)
class Vital:
    """A number to show, and for how long the broker shall keep it for those who come later."""

    message: VitalMessage
    retained_s: int | None = None


def vitals_of(patient: PatientState, now_ns: int | None, shown_ns: int | None) -> Iterator[Vital]:
    """All there is to show of a person.

    `now_ns`: the wall clock, or None in a replay, where nothing is late; `shown_ns`: time of the glucose reading that
    was shown last: another one is needed for anything new on glucose.
    """
    track, rate_bpm = patient.track, None
    if track is not None and track.running and patient.heart_rate_bpm is not None and _is_current(patient, track):
        rate_bpm = patient.heart_rate_bpm
        yield Vital(_heart_rate(patient, track, rate_bpm))
    glucose = patient.glucose
    if glucose is not None and glucose.last is not None and glucose.last.t_ns != shown_ns:
        kept_s = round(silence_deadline_s(0.0, glucose.stream.interval_s))
        late = now_ns is not None and now_ns - glucose.last.t_ns > patient.fresh_ns(glucose.stream)
        yield Vital(_glucose(patient.person.id, glucose.last, glucose.outlook, late=late), kept_s)
        yield from _days(patient.person.id, glucose, glucose.last.t_ns)
    for state in patient.streams.values():
        if state.last is None or state.stream.rate_hz or (glucose is not None and state.stream == glucose.stream):
            continue
        if state.stream.kind == "hr" and rate_bpm is not None:  # a strap's own count beside the rate of its ECG
            continue
        yield Vital(
            VitalMessage(
                patient=patient.person.id,
                code=state.stream.kind,
                value=float(state.last.samples[-1, 0]),
                unit=state.last.stream.unit,
                at=rfc3339(state.last.t0_ns),
                late=False,
            )
        )


def _days(patient: str, glucose: GlucoseState, at_ns: int) -> Iterator[Vital]:
    """How the last DAYS days went; nothing while too little of them is known."""
    found = glucose.days.glycaemia(DAYS, at_ns, glucose.local.offset_s(at_ns))
    if found.measures is None:
        return
    for name, measure in DAILY.items():
        yield Vital(
            VitalMessage(
                patient=patient,
                code=f"{name}_{DAYS}d",
                value=round(getattr(found.measures, measure), 1),
                unit="%" if measure.endswith("_percent") else "1",
                at=rfc3339(at_ns),
                late=False,
                quality=round(found.coverage, 3),
            ),
            DAY_S,
        )


def device_vitals(status: DeviceStatus, now_ns: int) -> Iterator[Vital]:
    """The battery of a wearable that is connected, and how strongly it is heard. `now_ns`: the wall clock."""
    if status.state != "connected":
        return
    for name, value, unit, retained_s in (
        ("battery", status.battery_percent, "%", DAY_S),
        ("rssi", status.rssi_dbm, "dBm", None),
    ):
        if value is not None:
            yield Vital(
                VitalMessage(
                    patient=status.patient,
                    code=f"{name}_{status.device}",
                    value=float(value),
                    unit=unit,
                    at=rfc3339(now_ns),
                    late=False,
                    device=status.device,
                ),
                retained_s,
            )


def trend(rate_mg_dl_min: float) -> Trend:
    """The rate of change in a word."""
    return next((word for above, word in TRENDS if rate_mg_dl_min > above), "falling_quickly")


def _heart_rate(patient: PatientState, track: EcgTrack, rate_bpm: float) -> VitalMessage:
    good = [second.good for second in patient.seconds]
    return VitalMessage(
        patient=patient.person.id,
        code="hr",
        value=round(rate_bpm, 1),
        unit="1/min",
        at=rfc3339(track.frontier_ns),
        late=False,
        quality=round(sum(good) / len(good), 3) if good else None,
    )


def _is_current(patient: PatientState, track: EcgTrack) -> bool:
    """Whether the heart rate is one of now: beats still come, on a signal that can be judged."""
    beating = track.frontier_ns - patient.recent[-1].r_ns < RATE_HOLDS_NS
    return beating and bool(patient.seconds) and patient.seconds[-1].good


def _glucose(patient: str, last: Glucose, outlook: Outlook | None, *, late: bool) -> VitalMessage:
    """The newest reading with its trend and what is expected after it."""
    rate = last.rate_mg_dl_min
    return VitalMessage(
        patient=patient,
        code="glucose",
        value=round(last.mg_dl, 1),
        unit="mg/dL",
        at=rfc3339(last.t_ns),
        late=late,
        rate_per_min=None if rate is None else round(rate, 2),
        trend=None if rate is None else trend(rate),
        expected=None if outlook is None or not outlook.usable else expected_models(outlook.expected),
        doubt=last.doubt or None,
    )
