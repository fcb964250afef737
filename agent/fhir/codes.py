"""The codes by which other systems know what is in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Concept = dict[str, Any]

LOINC: Final = "http://loinc.org"
MDC: Final = "urn:iso:std:iso:11073:10101"
UCUM: Final = "http://unitsofmeasure.org"
RULES: Final = "urn:vagus:rule"
PSEUDONYMS: Final = "urn:vagus:pseudonym"
AGENTS: Final = "urn:vagus:agent"
ALERTS: Final = "urn:vagus:alert"

_ECG_POTENTIAL: Final = 131328
_LEADS: Final[Mapping[str, int]] = {
    "I": 1, "II": 2, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8, "III": 61, "AVR": 62, "AVL": 63, "AVF": 64
}  # fmt: skip
"""ISO/IEEE 11073-10101: the lead's number is added to the code of an ECG's potential."""
PRIORITY: Final[Mapping[str, str]] = {"high": "stat", "medium": "urgent", "low": "routine"}
"""Of an alarm, as FHIR's request-priority has it."""

GLUCOSE: Final[Concept] = {
    "coding": [
        {
            "system": LOINC,
            "code": "99504-3",
            "display": "Glucose [Mass/volume] in Interstitial fluid",
        }
    ],
    "text": "Glucose, interstitial fluid",
}
HEART_RATE: Final[Concept] = {
    "coding": [{"system": LOINC, "code": "8867-4", "display": "Heart rate"}],
    "text": "Heart rate, mean of five minutes",
}
VITAL_SIGNS: Final[Concept] = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]
}
PROCEDURE: Final[Concept] = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "procedure"}]
}
ECG: Final[Concept] = {
    "coding": [{"system": MDC, "code": str(_ECG_POTENTIAL), "display": "MDC_ECG_ELEC_POTL"}],
    "text": "ECG, the strip that an alert rests on",
}
DRILL: Final[Concept] = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
"""A tag: this alarm was a drill."""


def lead(name: str) -> Concept:
    """The code of an ECG channel; by its name alone where it is no standard lead."""
    number = _LEADS.get(name.upper())
    if number is None:
        return {"text": name or "ECG"}
    code = {"system": MDC, "code": str(_ECG_POTENTIAL + number), "display": f"MDC_ECG_ELEC_POTL_{name.upper()}"}
    return {"coding": [code], "text": name}


def quantity(value: float, unit: str, code: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": code}
