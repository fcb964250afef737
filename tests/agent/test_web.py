"""What a scraper and a watchdog read: from a real engine, over real HTTP, on the loopback interface."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.config import ConfigError, parse_config
from agent.config.web import WebConfig
from agent.engine import Engine
from agent.inference import shipped_models
from agent.ingest.device_status import DeviceStatus
from agent.ingest.simulate import Episode, Rhythm, SimulatedPatient
from agent.ingest.source import Delivery
from agent.live_models import PackState
from agent.patient import Person
from agent.progress import STALLED_S, Progress
from agent.uplink.messages import StatusMessage
from agent.web.facts import Facts
from agent.web.web import Web
from firmware_bridge.chunk import Chunk

HEART = SimulatedPatient(5, script=[Episode(Rhythm.SINUS, 12.0), Episode(Rhythm.ASYSTOLE, 8.0)])
DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "vagus.json"


class Agent:
    """An engine that has heard a heart stop, and its pages."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.reasons: list[str] = []
        self.progress = Progress(lambda: self.now_s)
        stream = HEART.stream("p1", "strap")
        self.web = Web(WebConfig("127.0.0.1", 0))
        self.engine = Engine([Person("p1", (stream,))], shipped_models())
        for chunk in HEART.chunks(stream, chunk_s=1.0):
            with self.web.meters.stage("decide"):
                events = self.engine.step([chunk])
            self.web.meters.ticked(0.004, [_delivery(chunk)], events, 30 * 10**9)
        self.thread = ThreadPoolExecutor(1)
        self.endpoints = self.web.open(self.facts, self.thread, self.progress, lambda: self.reasons)

    def facts(self) -> Facts:
        counters = {"ticks": 20, "outbox_rows": 3, "inbox_waiting": 1}
        return Facts(
            status=StatusMessage(agent="ward", state="online", version="1", counters=counters),
            patients=tuple(self.engine.patients.values()),
            devices=(DeviceStatus("p1", "strap", "connected", "", rssi_dbm=-60, battery_percent=80),),
            packs=(PackState("beat", "cpu", "1.0"), PackState("vf", fault="gone")),
            shed={("input", "flood"): 7},
            rejected={"strap": {"not CBOR": 2}},
            connected={"upstream": True, "input": False},
        )

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.endpoints.port, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Name → label values, in the order of their names → value."""
        status, body = self.get("/metrics")
        assert status == 200
        out: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                out.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                    sample.value
                )
        return out


def _delivery(chunk: Chunk) -> Delivery:
    return Delivery((chunk,), "in", None, b"", 0, lambda: None)


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.endpoints.stop()
    agent.thread.shutdown()


def test_prometheus_reads_what_the_agent_knows(agent: Agent) -> None:
    told = agent.metrics()
    stream = ("ecg", "strap", "p1")
    assert told["vagus_stream_samples_total"][stream] == 20 * 250
    assert told["vagus_stream_nominal_rate_hertz"][stream] == 250
    assert told["vagus_stream_missing_seconds_total"][stream] == 0
    assert told["vagus_patient_seen_seconds_total"]["p1",] >= 19
    assert told["vagus_patient_usable_seconds_total"]["p1",] > 0
    assert told["vagus_alarms_on"]["high",] == 1
    assert told["vagus_alarm_events_total"]["start", "high", "asystole"] == 1
    assert told["vagus_shed_total"]["input", "flood"] == 7
    assert told["vagus_rejected_total"]["strap", "not CBOR"] == 2
    assert told["vagus_broker_connected"] == {("upstream",): 1, ("input",): 0}
    assert told["vagus_device_battery_percent"]["strap", "p1"] == 80
    assert told["vagus_model"] == {("beat", "cpu", "1.0"): 1, ("vf", "", ""): 0}
    assert told["vagus_outbox_rows"][()] == 3
    assert told["vagus_tick_seconds_count"][()] == 20
    assert told["vagus_lag_seconds_count"][()] == 0  # its data is of the year 2000
    assert told["process_resident_memory_bytes"][()] > 10**7


def test_every_query_of_the_dashboard_asks_for_something_that_there_is(agent: Agent) -> None:
    queries = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\b(?:vagus|process)_[a-z_]+\b", query)}
    assert len(asked) > 15
    assert asked <= agent.metrics().keys()


def test_health_says_what_is_wrong_and_fails_only_when_the_agent_stands_still(agent: Agent) -> None:
    assert agent.get("/healthz")[0] == 200
    agent.reasons = ["the disk is full"]
    agent.now_s = STALLED_S - 1
    status, body = agent.get("/healthz")
    assert (status, json.loads(body)["state"], json.loads(body)["reasons"]) == (200, "degraded", ["the disk is full"])
    agent.now_s = STALLED_S + 1
    status, body = agent.get("/healthz")
    assert (status, json.loads(body)["state"]) == (503, "stalled")
    agent.progress.made()
    assert agent.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/../etc/passwd", 404), ("POST", "/metrics", 405), ("HEAD", "/healthz", 200)],
)
def test_there_is_nothing_else_and_nothing_can_be_written(agent: Agent, method: str, path: str, status: int) -> None:
    assert agent.get(path, method)[0] == status


def test_nonsense_on_the_port_harms_nobody(agent: Agent) -> None:
    for nonsense in (b"\x00" * 5000, b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", agent.endpoints.port)) as client:
            client.sendall(nonsense)
    assert agent.get("/healthz")[0] == 200


CONFIG = """
[agent]
id = "ward"
state_dir = "state"
[mqtt]
host = "127.0.0.1"
[[patient]]
id = "p1"
[[patient.source]]
type = "mqtt"
device = "strap"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""


def test_nothing_listens_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert parse_config(CONFIG, tmp_path / "c.toml").web is None
    assert parse_config(CONFIG + "[web]\n", tmp_path / "c.toml").web == WebConfig("127.0.0.1", 9108)
    assert parse_config(CONFIG + '[web]\nlisten = "[::1]:80"\n', tmp_path / "c.toml").web == WebConfig("::1", 80)


@pytest.mark.parametrize("listen", ["9108", ":9108", "here:port", "here:70000"])
def test_an_address_that_is_none_is_a_fault_with_its_line(tmp_path: Path, listen: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml:17: web\.listen: .*HOST:PORT"):
        parse_config(CONFIG + f'[web]\nlisten = "{listen}"\n', tmp_path / "c.toml")
