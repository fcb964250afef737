"""What is known of a person beforehand, from a file of their own: it moves limits within their bounds, and no further.

The file is TOML (`age_years`, `known`, `[[limit]]`) or a FHIR R4 Bundle in JSON, of which the birth date of the Patient
and the codes of Conditions and Devices are read. A file that cannot be read is refused, and the last good one holds.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agent.alarms.limits import BOUNDS, DEFAULTS, Limits
from agent.alarms.local_time import LocalTime
from agent.config.faults import ConfigError, Fault
from agent.config.limits import read_limits
from agent.config.reader import TableReader, parse_toml
from agent.config.schema import Table

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
Known = Literal["atrial_fibrillation", "long_qt", "pacemaker", "athlete"]

_CODES: dict[tuple[str, str], Known] = {
    ("http://snomed.info/sct", "49436004"): "atrial_fibrillation",
    ("http://snomed.info/sct", "9651007"): "long_qt",
    ("http://snomed.info/sct", "14106009"): "pacemaker",
}
_ICD10: dict[str, Known] = {"I48": "atrial_fibrillation", "I45.81": "long_qt", "Z95.0": "pacemaker"}
"""By the beginning of a code of ICD-10 or ICD-10-CM."""
_ICD10_SYSTEMS = ("http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-10-cm")
_OVER = frozenset({"inactive", "remission", "resolved", "refuted", "entered-in-error"})


class ContextTable(Table):
    """A file about one person, named by `context_file`."""

    age_years: float | None = Field(
        None,
        ge=0,
        le=130,
        title="Age",
        description="Under 1: tachycardia above 220/min; under 13: above 180/min; both: bradycardia below 60/min.",
    )
    known: list[Known] | None = Field(
        None,
        title="Known",
        description='"atrial_fibrillation": said only after 10 min of it. "long_qt": three ventricular beats in a row '
        'are a run. "athlete": bradycardia below 35/min. "pacemaker": changes no limit; its spikes may pass for beats '
        "and hide a standstill.",
    )
    limit: list[dict[str, Any]] | None = Field(
        None,
        title="Limits by the clinician",
        description="As [[patient.limit]] of the config, before which they go.",
    )


@dataclass(frozen=True, slots=True)
class PatientContext:
    """What a file said."""

    age_years: float | None = None
    known: tuple[Known, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    """Fields of Limits that a clinician has set."""
    disabled: tuple[str, ...] = ()

    def applied(self, limits: Limits) -> Limits:
        """Somebody's limits with this known: what the config sets itself is moved only by a clinician's word."""
        moved = {name: value for name, value in self._moved().items() if getattr(limits, name) == DEFAULTS[name]}
        moved |= dict(self.limits)
        bounded = {name: min(max(value, BOUNDS[name].low), BOUNDS[name].high) for name, value in moved.items()}
        whole = {name: type(DEFAULTS[name])(value) for name, value in bounded.items()}
        return replace(limits, **whole, disabled=limits.disabled | set(self.disabled))  # type: ignore[arg-type]

    def _moved(self) -> dict[str, float]:
        """What age and what is known ask for. Rates of children: Pediatric Advanced Life Support."""
        moved: dict[str, float] = {}
        if self.age_years is not None and self.age_years < 13:
            moved = {"tachycardia_above_bpm": 220.0 if self.age_years < 1 else 180.0, "bradycardia_below_bpm": 60.0}
        if "atrial_fibrillation" in self.known:
            moved["atrial_fibrillation_longer_than_s"] = 600.0
        if "long_qt" in self.known:
            moved["ventricular_tachycardia_beats"] = 3
        if "athlete" in self.known and "bradycardia_below_bpm" not in moved:
            moved["bradycardia_below_bpm"] = 35.0
        return moved


def read_context(path: Path, local: LocalTime, today: date) -> PatientContext:
    """What the file says; raises ConfigError with every fault of it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Fault(str(path), 1, "", f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([Fault(str(path), 1, "", f"is larger than {MAX_BYTES >> 20} MB")])
    if path.suffix == ".json":
        return _from_fhir(content, str(path), today)
    data, lines = parse_toml(content, str(path))
    read = TableReader(path, lines)
    table = read.table(ContextTable, data, ())
    limits = read_limits(read, (table.limit if table else None) or [], ("limit",), local)
    if limits.hours:
        read.fault(("limit",), "has hours", "limits by time of day are the config's: [[patient.limit]]")
    if read.faults or table is None:
        raise ConfigError(read.faults)
    written = tuple(
        (name, float(getattr(limits, name))) for name in DEFAULTS if getattr(limits, name) != DEFAULTS[name]
    )
    return PatientContext(table.age_years, tuple(table.known or ()), written, tuple(sorted(limits.disabled)))


class LastGood:
    """The last context of each person that could be read, in the state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "context"

    def keep(self, patient: str, context: PatientContext) -> None:
        """Remember it, where it is another one; a full disk costs no more than that."""
        if self.get(patient) == context:
            return
        path = self._folder / f"{patient}.json"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            beside = path.with_suffix(".new")
            with beside.open("w", encoding="utf-8") as file:
                json.dump(asdict(context), file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error)

    def get(self, patient: str) -> PatientContext | None:
        """None where none was good, or what was kept is damaged."""
        try:
            kept = json.loads((self._folder / f"{patient}.json").read_text(encoding="utf-8"))
            values = {field.name: kept[field.name] for field in fields(PatientContext)}
            limits = tuple((str(name), float(value)) for name, value in values["limits"])
            if not all(name in BOUNDS for name, _ in limits):
                return None
            return PatientContext(values["age_years"], tuple(values["known"]), limits, tuple(values["disabled"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def context_of(
    patient: str, path: Path, local: LocalTime, last_good: LastGood, today: date
) -> tuple[PatientContext, str]:
    """What holds for somebody, and why their file was refused; empty where it was not."""
    try:
        context = read_context(path, local, today)
    except ConfigError as error:
        before = last_good.get(patient)
        instead = "the last good one holds" if before is not None else "the config's limits hold alone"
        return before or PatientContext(), f"The context file of {patient} was refused, {instead}: {error.faults[0]}"
    last_good.keep(patient, context)
    return context, ""


def _from_fhir(content: bytes, file: str, today: date) -> PatientContext:
    try:
        return _from_bundle(json.loads(content), today)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "is no FHIR Bundle"
        raise ConfigError([Fault(file, 1, "", what)]) from None


def _from_bundle(bundle: dict[str, Any], today: date) -> PatientContext:
    if bundle["resourceType"] != "Bundle":
        raise ValueError("is no FHIR Bundle")
    resources = [entry["resource"] for entry in bundle["entry"]]
    patients = [one for one in resources if one.get("resourceType") == "Patient"]
    if len(patients) != 1:
        raise ValueError(f"has {len(patients)} Patients, expected one")
    born = patients[0].get("birthDate")
    known = {found for one in resources if _counts(one) for found in _known(one)}
    return PatientContext(None if born is None else _age_years(str(born), today), tuple(sorted(known)))


def _age_years(born: str, today: date) -> float:
    """From a FHIR date, which may be a year, or a year and a month: the youngest that it may mean."""
    parts = [int(part) for part in born.split("-")]
    year, month, day = [*parts, *(12, 28)[len(parts) - 1 :]]
    age_years = (today - date(year, month, day)).days / 365.25
    if not -1 <= age_years <= 130:
        raise ValueError(f"birthDate {born[:20]!r} makes no sense")
    return max(0.0, age_years)


def _counts(resource: dict[str, Any]) -> bool:
    """Whether a Condition or Device still holds, as far as it says."""
    if resource.get("resourceType") not in {"Condition", "Device"}:
        return False
    said = [resource.get("status")]
    for key in ("clinicalStatus", "verificationStatus"):
        said += [coding.get("code") for coding in (resource.get(key) or {}).get("coding", [])]
    return not _OVER & {word for word in said if isinstance(word, str)}


def _known(resource: dict[str, Any]) -> list[Known]:
    concept = resource.get("code") or resource.get("type") or {}
    found: list[Known] = []
    for coding in concept.get("coding", []):
        system, code = coding.get("system"), str(coding.get("code"))
        if (system, code) in _CODES:
            found.append(_CODES[system, code])
        elif system in _ICD10_SYSTEMS:
            found += [known for start, known in _ICD10.items() if code.startswith(start)]
    return found
