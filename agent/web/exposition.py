"""The agent's state as Prometheus metrics, drawn up anew for every scrape from what the retained status says as well.

Labels hold pseudonyms, devices and rules, and nothing else about anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from agent.alarms.states import urgency
from agent.ingest.device_status import DeviceStatus
from agent.live_models import PackState
from agent.patient import PatientState
from agent.stream_state import StreamState
from agent.web.facts import Facts
from firmware_bridge.chunk import NS_PER_S

STREAM = ("patient", "device", "channel")


def families(facts: Facts) -> list[Metric]:
    """All metrics of one moment."""
    return [
        *_of_the_agent(facts),
        *_of_streams(state for one in facts.patients for state in one.streams.values()),
        *_of_patients(facts.patients),
        *_of_devices(facts.devices),
        *_of_packs(facts.packs),
    ]


def _of_the_agent(facts: Facts) -> Iterator[Metric]:
    status = facts.status
    yield InfoMetricFamily("vagus", "This agent", {"agent": status.agent, "version": status.version})
    degraded = GaugeMetricFamily("vagus_degraded_reasons", "Why the agent does less than it should: how many reasons")
    degraded.add_metric((), len(status.reasons))
    yield degraded
    yield _gauge("vagus_broker_connected", "Whether a connection to the broker stands", "connection", facts.connected)
    yield _counter2("vagus_shed", "What was left undone so that alarms are in time", ("what", "why"), facts.shed)
    rejected = {(device, why): n for device, reasons in facts.rejected.items() for why, n in reasons.items()}
    yield _counter2("vagus_rejected", "Messages that could not be read", ("device", "reason"), rejected)
    for name, count in status.counters.items():
        if " " not in name and not name.startswith("shed"):
            yield GaugeMetricFamily(f"vagus_{name}", "As in the retained status, `counters`", value=count)


def _of_streams(streams: Iterable[StreamState]) -> Iterator[Metric]:
    newest = GaugeMetricFamily("vagus_stream_newest_timestamp_seconds", "Time of the newest sample", labels=STREAM)
    missing = CounterMetricFamily("vagus_stream_missing_seconds", "Signal that never came", labels=STREAM)
    taken = CounterMetricFamily("vagus_stream_samples", "Samples taken in", labels=STREAM)
    rate = GaugeMetricFamily("vagus_stream_nominal_rate_hertz", "The rate the stream should have", labels=STREAM)
    odd = CounterMetricFamily("vagus_stream_oddities", "Chunks that were not in order", labels=(*STREAM, "reason"))
    for state in streams:
        labels = (state.stream.patient, state.stream.device, state.stream.channel)
        if state.last is not None:
            newest.add_metric(labels, state.last.end_ns / NS_PER_S)
        missing.add_metric(labels, state.missing_ns / NS_PER_S)
        taken.add_metric(labels, state.samples)
        rate.add_metric(labels, state.stream.rate_hz)
        for reason, count in sorted(state.aligner.counts.items()):
            odd.add_metric((*labels, reason), count)
    yield from (newest, missing, taken, rate, odd)


def _of_patients(patients: Iterable[PatientState]) -> Iterator[Metric]:
    seen = CounterMetricFamily("vagus_patient_seen_seconds", "Seconds of ECG analysed", labels=["patient"])
    good = CounterMetricFamily("vagus_patient_usable_seconds", "Those that passed the quality gate", labels=["patient"])
    on: Counter[str] = Counter({"high": 0, "medium": 0, "low": 0})
    for patient in patients:
        on.update(urgency(rule)[1].value for rule in patient.states.active)
        if patient.person.ecg is not None:
            seen.add_metric([patient.person.id], patient.coverage.seen)
            good.add_metric([patient.person.id], patient.coverage.good)
    yield from (seen, good, _gauge("vagus_alarms_on", "Alarms that are on", "priority", on))


def _of_devices(devices: Iterable[DeviceStatus]) -> Iterator[Metric]:
    labels = ("patient", "device")
    connected = GaugeMetricFamily("vagus_device_connected", "Whether a wearable sends", labels=labels)
    battery = GaugeMetricFamily("vagus_device_battery_percent", "Charge of a wearable", labels=labels)
    rssi = GaugeMetricFamily("vagus_device_rssi_dbm", "How strongly it was last heard", labels=labels)
    for one in devices:
        place = (one.patient, one.device)
        connected.add_metric(place, one.state == "connected")
        if one.battery_percent is not None:
            battery.add_metric(place, one.battery_percent)
        if one.rssi_dbm is not None:
            rssi.add_metric(place, one.rssi_dbm)
    yield from (connected, battery, rssi)


def _of_packs(packs: Iterable[PackState]) -> Iterator[Metric]:
    runs = GaugeMetricFamily(
        "vagus_model", "1 where a model is asked, 0 where it is missing", labels=("pack", "version", "runtime")
    )
    for pack in packs:
        runs.add_metric((pack.id, pack.version, pack.runtime or ""), pack.runtime is not None)
    yield runs


def _gauge(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    out = GaugeMetricFamily(name, words, labels=[label])
    for key, value in values.items():
        out.add_metric([key], value)
    return out


def _counter2(name: str, words: str, labels: tuple[str, str], values: Mapping[tuple[str, str], int]) -> Metric:
    out = CounterMetricFamily(name, words, labels=labels)
    for key, value in sorted(values.items()):
        out.add_metric(key, value)
    return out
