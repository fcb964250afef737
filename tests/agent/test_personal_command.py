"""`vagus personal`: what was learned of one person, and back to an earlier version of it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli import main
from agent.history import History
from agent.history.file import FILE_NAME
from agent.signal.personal import PersonalCalibration
from agent.uplink.outbox import Outbox


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with two versions of one person, who has moved on between them."""
    with closing(History(tmp_path / FILE_NAME)) as history:
        versions = history.versions()
        assert versions is not None
        personal = PersonalCalibration()
        versions.save("ward-3", personal.state_json())
        for i in range(40):
            personal.push(1_700_000_000_000_000_000 + i * 300_000_000_000, 100.0 + i, None)
        versions.save("ward-3", personal.state_json())
        versions.save("odd", "{}")
    return tmp_path


def versions_of(state: Path, patient: str) -> list[tuple[int, str, str]]:
    with closing(History(state / FILE_NAME)) as history:
        versions = history.versions()
        assert versions is not None
        return [(one.generation, one.note, one.state_json) for one in versions.list(patient)]


def test_it_shows_every_version_with_its_thresholds(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["personal", "ward-3", "--state", str(state)]) == 0
    head, newest, oldest = capsys.readouterr().out.splitlines()
    assert head.startswith("generation")
    assert newest.startswith("2")
    assert oldest.startswith("1")
    assert main(["personal", "ward-3", "--state", str(state), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [version["generation"] for version in told["versions"]] == [2, 1]
    assert 0.05 <= told["versions"][0]["low"]["starts_at"] <= 0.95
    assert told["versions"][0]["drift"] == ""


def test_a_version_that_cannot_be_read_is_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["personal", "odd", "--state", str(state)]) == 0
    assert "missing" in capsys.readouterr().out
    assert main(["personal", "odd", "rollback", "1", "--state", str(state)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_an_earlier_version_is_taken_back_as_a_new_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = versions_of(state, "ward-3")[-1][2]
    assert main(["personal", "ward-3", "rollback", "1", "--state", str(state)]) == 0
    assert "generation 3, rolled back to generation 1" in capsys.readouterr().out
    assert versions_of(state, "ward-3")[0] == (3, "rolled back to generation 1", first)


def test_while_the_agent_runs_nothing_is_taken_back(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = versions_of(state, "ward-3")
    with closing(Outbox(state / "outbox.sqlite")):
        assert main(["personal", "ward-3", "rollback", "1", "--state", str(state)]) == 1
    assert "stop the agent first" in capsys.readouterr().err
    assert versions_of(state, "ward-3") == before
    assert main(["personal", "ward-3", "rollback", "1", "--state", str(state)]) == 0


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (["nobody"], 1, "nothing was learned"),
        (["ward-3", "rollback"], 2, "rollback GENERATION"),
        (["ward-3", "show", "1"], 2, "rollback GENERATION"),
        (["ward-3", "rollback", "9"], 1, "no generation 9"),
    ],
)
def test_what_cannot_be_is_said(
    state: Path, capsys: pytest.CaptureFixture[str], asked: list[str], code: int, said: str
) -> None:
    assert main(["personal", *asked, "--state", str(state)]) == code
    assert said in capsys.readouterr().err


def test_without_a_history_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["personal", "ward-3", "--state", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err
