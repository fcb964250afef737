"""Who watches whom, how often a worker is started again, and how several statuses become one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ConfigError, parse_config
from agent.uplink.messages import StatusMessage, StreamHealth, WorkerHealth
from agent.uplink.topics import Topics
from agent.workers.budget import DEATHS, PAUSE_S, RestartBudget
from agent.workers.layout_file import FILE_NAME, KeptLayout, keep_layout, kept_layout
from agent.workers.merged import Part, merged_alarms, merged_status
from agent.workers.shares import LOCAL_OWNER, MOST_WORKERS, Layout, share_of, wanted_layout, whole

NAMES = [f"bed-{k}" for k in range(1000)]
HEAD = '[agent]\nid = "ward"\nstate_dir = "/tmp/ward"\nworkers = {}\n'
BED = """
[[patient]]
id = "{bed}"
[[patient.source]]
type = "mqtt"
device = "of-{bed}"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""
CABLE = """
[[patient.source]]
type = "serial"
device = "cable"
port = "/dev/ttyUSB0"
channel = "ecg"
kind = "ecg"
rate_hz = 250
channels = ["II"]
"""


def config(workers: object, beds: int = 6, more: str = "") -> object:
    text = HEAD.format(workers) + "".join(BED.format(bed=f"bed-{k}") for k in range(beds)) + more
    return parse_config(text, Path("/tmp/ward.toml"), {})  # noqa: S108


@given(st.integers(1, MOST_WORKERS - 1))
def test_a_worker_more_takes_from_all_and_nobody_else_moves(workers: int) -> None:
    before, after = Layout(workers), Layout(workers + 1)
    moved = [name for name in NAMES if before.owner(name) != after.owner(name)]
    assert all(after.owner(name) == workers for name in moved)
    assert len(moved) < 2 * len(NAMES) / (workers + 1)


@pytest.mark.parametrize("workers", range(2, MOST_WORKERS + 1))
def test_shares_of_a_ward_are_about_equal(workers: int) -> None:
    counts = [sum(Layout(workers).owner(name) == worker for name in NAMES) for worker in range(workers)]
    assert min(counts) > 0.7 * len(NAMES) / workers
    assert max(counts) < 1.3 * len(NAMES) / workers


def test_everybody_and_every_sensor_is_in_exactly_one_share() -> None:
    ward = config(3, beds=30)
    layout = wanted_layout(ward, 1)
    shares = [share_of(ward, layout, worker) for worker in range(3)]
    assert sorted(p.id for share in shares for p in share.config.patients) == sorted(p.id for p in ward.patients)
    heard = [one for share in shares for one in share.filters]
    assert sorted(heard) == sorted(f"vagus/v1/in/of-bed-{k}/ecg" for k in range(30))
    assert len({share.session for share in shares} | {share.uplink_id for share in shares}) == 6
    assert [share.everybody is ward for share in shares] == [True, False, False]


def test_a_command_is_for_exactly_one() -> None:
    ward = config(3)
    shares = [share_of(ward, wanted_layout(ward, 1), worker) for worker in range(3)]
    for name in [*(patient.id for patient in ward.patients), "ward:w2"]:
        asked = json.dumps({"patient": name, "by": "me"}).encode()
        assert sum(share.is_asked(asked) for share in shares) == 1
    for nobody in (b'{"patient": "x"}', b"[1]", b"\xff", b'{"patient": 3}', b'{"patient": "ward"}', b"[" * 5000):
        assert not any(share.is_asked(nobody) for share in shares)
        assert whole(ward).is_asked(nobody)


def test_who_wears_a_cable_of_this_machine_is_with_its_owner() -> None:
    layout = wanted_layout(config(4, more=CABLE), 1)
    assert layout.local == {"bed-5"}
    assert layout.owner("bed-5") == LOCAL_OWNER


def test_as_many_as_cores_and_no_more_than_it_is_worth() -> None:
    for beds, cores, workers in ((6, 8, 1), (150, 8, 2), (150, 1, 1)):
        assert wanted_layout(config('"auto"', beds=beds), 1, cores=cores).workers == workers
    assert wanted_layout(config(1), 5) == Layout()


@pytest.mark.parametrize("workers", ["0", "11", "2.5", '"many"', "true"])
def test_an_impossible_number_is_a_fault(workers: str) -> None:
    with pytest.raises(ConfigError, match="workers"):
        config(workers)


def test_one_process_is_as_it_ever_was() -> None:
    share = whole(config(1))
    assert (share.session, share.uplink_id, share.filters) == ("vagus-ward-in", "vagus-ward", ("vagus/v1/in/+/+",))
    assert (share.topics, share.folder) == (Topics("ward"), Path("/tmp/ward"))  # noqa: S108


def test_deaths_are_answered_at_once_then_slower_then_not_for_a_while() -> None:
    budget = RestartBudget()
    waits = [budget.died(10.0 * k) for k in range(DEATHS)]
    assert waits == [1.0, 2.0, 4.0, 8.0, PAUSE_S]
    assert budget.died(1000.0) == 1.0
    patient = RestartBudget()
    assert {patient.died(400.0 * k) for k in range(20)} == {1.0}


def test_a_layout_outlasts_the_process(tmp_path: Path) -> None:
    assert kept_layout(tmp_path) == KeptLayout(Layout())
    kept = KeptLayout(Layout(3, frozenset({"a"}), 7), moving_to=Layout(2, made_s=9))
    keep_layout(tmp_path, kept)
    assert kept_layout(tmp_path) == kept
    for damaged in ("", "[]", '{"layout": 3}', '{"layout": {"workers": "x"}, "moving_to": null}'):
        (tmp_path / FILE_NAME).write_text(damaged)
        assert kept_layout(tmp_path) is None
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / "worker-1").mkdir()
    assert kept_layout(tmp_path) is None


def part(
    worker: int, *, trouble: str = "", reasons: tuple[str, ...] = (), stands: dict[str, str] | None = None
) -> Part:
    stream = StreamHealth(patient=f"p{worker}", device="d", channel="ecg", kind="ecg", state="ok")
    status = StatusMessage(
        agent="ward",
        state="online",
        reasons=list(reasons),
        streams=[stream],
        counters={"ticks": 5, f"only {worker}": 1},
    )
    health = WorkerHealth(worker=worker, state="down" if trouble else "running", patients=1)
    return Part(health, (f"p{worker}",), trouble, status, stands or {})


OWN = StatusMessage(agent="ward", state="online", boot_id=3)


def test_what_all_say_is_said_once_and_what_some_say_with_their_numbers() -> None:
    status = merged_status(OWN, [part(0, reasons=("hot", "no input")), part(1, reasons=("hot",))])
    assert status.reasons == ["hot", "worker 0: no input"]
    assert (status.state, status.boot_id) == ("degraded", 3)
    assert status.counters == {"ticks": 10, "only 0": 1, "only 1": 1}
    assert merged_status(OWN, [part(0), part(1)]).state == "online"
    stands = merged_alarms([part(0, stands={"model_missing:vf": "gone"}), part(1, stands={"model_missing:vf": "gone"})])
    assert stands == {"model_missing:vf": "gone"}
    stands = merged_alarms([part(0, stands={"bluetooth:hci0": "off"}), part(1)])
    assert stands == {"bluetooth:hci0": "worker 0: off"}


def test_who_is_not_watched_is_named_and_silent() -> None:
    parts = [part(0), part(1, trouble="was killed (SIGKILL)", reasons=("stale",))]
    status = merged_status(OWN, parts)
    assert status.reasons == ["Worker 1 was killed (SIGKILL): not watched: p1"]
    assert [(one.patient, one.state) for one in status.streams] == [("p0", "ok"), ("p1", "silent")]
    assert merged_alarms(parts) == {"worker_down:1": "Worker 1 was killed (SIGKILL): not watched: p1"}
