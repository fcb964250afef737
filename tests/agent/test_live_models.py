"""What runs in an agent, what became of the rest, and which alarms say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.alarms.alert import AlertEvent, Category, Phase, Priority
from agent.config.schema import AgentTable
from agent.live_models import EXPECTED, WITHOUT, check_pack, live_models, model_alarms
from agent.standing import Standing, StandingAlarms
from models.backends import RUNTIMES, Runtime, open_backend, probe
from models.manifest import MANIFEST_NAME
from models.pack import ModelPack, PackError, available_packs, golden, load, shipped
from models.store import install

NOW_NS = 1_800_000_000_000_000_000


def clock() -> int:
    return NOW_NS


@pytest.fixture
def broken_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Vagus as if installed with a beat pack that is damaged."""
    packs = Path(shutil.copytree(shipped("beat").parent, tmp_path / "shipped"))
    (packs / "beat" / "golden.npz").write_bytes(b"")
    monkeypatch.setattr("models.pack.PACKS", packs)
    return packs


def test_every_shipped_pack_is_expected_and_its_loss_has_words() -> None:
    assert {path.name for path in available_packs()} == set(EXPECTED)
    assert set(EXPECTED) <= set(WITHOUT)


def test_the_config_knows_every_runtime() -> None:
    names = AgentTable.model_json_schema()["properties"]["runtime"]["enum"]
    assert set(names) == {"auto", *RUNTIMES}


def test_shipped_packs_run_and_nothing_is_told(tmp_path: Path) -> None:
    models, states = live_models(tmp_path, "cpu", clock)
    assert models.by_task.keys() == set(EXPECTED)
    for state in states:
        assert (state.runtime, state.installed, state.fault, state.refused) == ("cpu", False, "", ())
    assert model_alarms(states) == {}


def test_an_installed_pack_is_used_and_one_that_was_damaged_is_told(tmp_path: Path) -> None:
    given = Path(shutil.copytree(shipped("beat"), tmp_path / "given" / "beat"))
    manifest = given / MANIFEST_NAME
    version = load(given).version
    manifest.write_text(manifest.read_text().replace(f'version = "{version}"', 'version = "9.9.9"'))
    install(given, tmp_path / "packs", check_pack)
    beat = next(state for state in live_models(tmp_path, "cpu", clock)[1] if state.id == "beat")
    assert (beat.installed, beat.version) == (True, "9.9.9")
    (tmp_path / "packs" / "beat" / "golden.npz").write_bytes(b"")
    models, states = live_models(tmp_path, "cpu", clock)
    beat = next(state for state in states if state.id == "beat")
    assert models.beat is not None
    assert (beat.installed, beat.version, beat.runtime) == (False, version, "cpu")
    assert "the installed pack" in beat.refused[0]
    assert list(model_alarms(states)) == ["model_runtime:beat"]


def test_a_pack_that_is_damaged_is_a_fault_and_the_agent_goes_on_without(tmp_path: Path, broken_shipped: Path) -> None:
    models, states = live_models(tmp_path, "auto", clock)
    beat = next(state for state in states if state.id == "beat")
    assert models.beat is None
    assert beat.runtime is None
    assert "golden.npz" in beat.fault
    text = model_alarms(states)["model_missing:beat"]
    assert "no ventricular alarms" in text
    assert "golden.npz" in text


def test_a_pack_that_is_gone_is_a_fault(tmp_path: Path, broken_shipped: Path) -> None:
    shutil.rmtree(broken_shipped / "beat")
    models, states = live_models(tmp_path, "cpu", clock)
    assert models.beat is None
    assert "model_missing:beat" in model_alarms(states)


def test_a_pack_that_answers_otherwise_here_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(*_: object) -> float:
        raise PackError(Path("golden.npz"), "golden vectors differ by 0.5")

    monkeypatch.setattr("models.backends.probe.verify", differs)
    models, states = live_models(tmp_path, "cpu", clock)
    assert models.by_task == {}
    assert all("golden vectors differ" in state.fault for state in states)


def test_an_accelerator_that_fails_is_told_by_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {"tensorrt": Runtime("segfaults", "tests.models.fake_runtimes", "onnx"), "cpu": RUNTIMES["cpu"]}
    real = probe.choose
    monkeypatch.setattr("agent.live_models.choose", lambda packs, name, at, now: real(packs, name, at, now, fakes))
    _, states = live_models(tmp_path, "tensorrt", clock)
    for state in states:
        assert state.runtime == "cpu"
        assert state.refused == ("segfaults: crashed (SIGSEGV)",)
    assert model_alarms(states)["model_runtime:beat"].startswith("Model beat runs on cpu instead: segfaults: crashed")
    _, states = live_models(tmp_path, "tensorrt", clock)
    assert all("quarantined (crashed" in state.refused[0] for state in states)


class Fragile:
    """Works until it is told to break."""

    name = "openvino"

    def __init__(self, pack: ModelPack) -> None:
        self._real = open_backend(pack)
        self.breaks: Callable[[np.ndarray], np.ndarray] | None = None

    def run(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        logits = self._real.run(inputs)
        return self.breaks(logits) if self.breaks else logits


def unplugged(_: np.ndarray) -> np.ndarray:
    raise OSError("device is gone")


@pytest.mark.parametrize(
    ("breaks", "why"),
    [
        (unplugged, "OSError: device is gone"),
        (lambda logits: logits * np.float32("nan"), "non-finite"),
        (lambda logits: logits[:, :1], "gave"),
    ],
)
def test_a_runtime_that_fails_while_it_runs_gives_way_to_the_cpu_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[np.ndarray], np.ndarray], why: str
) -> None:
    fragile: dict[str, Fragile] = {}

    def choices(packs: list[ModelPack], *_: object) -> list[probe.Choice]:
        fragile.update({pack.id: Fragile(pack) for pack in packs})
        return [probe.Choice(pack, fragile[pack.id], ()) for pack in packs]

    monkeypatch.setattr("agent.live_models.choose", choices)
    models, states = live_models(tmp_path, "openvino", clock)
    assert models.beat is not None
    inputs, logits = golden(models.beat.pack)
    wanted = models.beat.pack.probabilities(logits)
    assert models.beat.probabilities(inputs).tobytes() == wanted.tobytes()
    assert (models.beat.runtime, model_alarms(states)) == ("openvino", {})

    with pytest.raises(ValueError, match="inputs are"):
        models.beat.probabilities({})
    assert models.beat.runtime == "openvino", "wrong inputs are not its fault"

    fragile["beat"].breaks = breaks
    assert models.beat.probabilities(inputs).tobytes() == wanted.tobytes(), "the batch that failed is answered"
    beat = next(state for state in states if state.id == "beat")
    assert models.beat.runtime == beat.runtime == "cpu"
    assert why in beat.refused[-1]
    assert list(model_alarms(states)) == ["model_runtime:beat"]
    assert "while running" in (tmp_path / probe.QUARANTINE_FILE).read_text()


def test_a_pack_that_nothing_asks_is_refused() -> None:
    pack = load(shipped("beat"))
    renamed = replace(pack, manifest=pack.manifest.model_copy(update={"id": "oracle"}))
    with pytest.raises(PackError, match="nothing here asks a pack called 'oracle'"):
        check_pack(renamed)


# -- alarms that outlast a process -------------------------------------------------------------------------------------


class Outbox:
    """What was committed."""

    def __init__(self) -> None:
        self.said: list[AlertEvent] = []

    def __call__(self, events: list[AlertEvent]) -> None:
        self.said = events


def of_the_ward(wanted: dict[str, str]) -> dict[Standing, str]:
    return {("ward", rule): text for rule, text in wanted.items()}


def start(path: Path, wanted: dict[str, str], now_ns: int) -> list[tuple[str, str]]:
    outbox = Outbox()
    StandingAlarms(path / "standing.json").change(of_the_ward(wanted), now_ns, outbox)
    return [(event.rule, event.phase.value) for event in outbox.said]


def test_an_alarm_begins_goes_on_over_starts_and_ends(tmp_path: Path) -> None:
    missing = {"model_missing:beat": "Model missing"}
    assert start(tmp_path, {}, 1) == []
    assert start(tmp_path, missing, 2) == [("model_missing:beat", "start")]
    assert start(tmp_path, missing, 3) == [("model_missing:beat", "continue")]
    assert start(tmp_path, {"model_runtime:beat": "on cpu"}, 4) == [
        ("model_missing:beat", "end"),
        ("model_runtime:beat", "start"),
    ]
    assert start(tmp_path, {}, 5) == [("model_runtime:beat", "end")]
    assert start(tmp_path, {}, 6) == []


def test_it_is_said_again_only_where_its_text_changes_and_its_end_names_the_alarm_that_began(tmp_path: Path) -> None:
    said: list[AlertEvent] = []
    alarms = StandingAlarms(tmp_path / "standing.json")
    for now_ns, text in ((7, "why"), (8, "why"), (9, "another reason"), (10, "")):
        alarms.change({("ward", "model_missing:beat"): text} if text else {}, now_ns, said.extend)
    assert len({event.alert_id for event in said}) == 1
    assert [event.phase for event in said] == [Phase.START, Phase.CONTINUE, Phase.END]
    assert [event.at_ns for event in said] == [7, 9, 10]
    assert {(event.patient, event.category, event.priority) for event in said} == {
        ("ward", Category.TECHNICAL, Priority.MEDIUM)
    }


@pytest.mark.parametrize("fails_after", [0, 1])
def test_after_a_crash_in_between_nothing_stays_on_for_ever(tmp_path: Path, fails_after: int) -> None:
    """`commit` fails before or after it took effect; the next start knows of the alarm all the same."""
    path = tmp_path / "standing.json"
    said: list[AlertEvent] = []

    def crash(events: list[AlertEvent]) -> None:
        if fails_after:
            said.extend(events)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StandingAlarms(path).change(of_the_ward({"model_missing:vf": "why"}), 1, crash)
    StandingAlarms(path).change(of_the_ward({"model_missing:vf": "why"}), 2, said.extend)
    with pytest.raises(KeyboardInterrupt):
        StandingAlarms(path).change({}, 3, crash)
    StandingAlarms(path).change({}, 4, said.extend)
    assert said[-1].phase is Phase.END
    assert len({event.alert_id for event in said}) == 1
    StandingAlarms(path).change({}, 5, crash)  # nothing is left to say


@pytest.mark.parametrize(
    "content", [b"", b"{", b'[["ward", "model_missing:beat"]]', b'[["ward", "no_such_rule", 1, "x"]]', b"[3]", b"\xff"]
)
def test_a_damaged_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "standing.json").write_bytes(content)
    assert start(tmp_path, {"model_missing:beat": "why"}, 1) == [("model_missing:beat", "start")]
    assert start(tmp_path, {}, 2) == [("model_missing:beat", "end")]
