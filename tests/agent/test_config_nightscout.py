"""A glucose source that is fetched: an address, a secret in a file, and nothing secret anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config, ConfigError, NightscoutConfig, parse_config


def read(text: str, folder: Path) -> Config:
    return parse_config(text, folder / "vagus.toml", {})


NIGHTSCOUT = """
[agent]
id = "a"
[[patient]]
id = "p1"
[[patient.source]]
type = "nightscout"
url = "https://sugar.example/"
"""


def test_a_nightscout_site_needs_an_address_alone(tmp_path: Path) -> None:
    (source,) = read(NIGHTSCOUT, tmp_path).patients[0].sources
    assert isinstance(source, NightscoutConfig)
    assert (source.url, source.secret, source.token, source.poll_s) == ("https://sugar.example/", None, None, 30.0)
    assert (source.stream.key, source.stream.kind, source.stream.interval_s) == ("p1/nightscout/glucose", "cgm", 300.0)


def test_a_secret_stands_in_a_file_and_shows_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("open sesame\n")
    (tmp_path / "secret").chmod(0o600)
    config = read(NIGHTSCOUT + 'secret_file = "secret"\n', tmp_path)
    (source,) = config.patients[0].sources
    assert isinstance(source, NightscoutConfig)
    assert source.secret == "open sesame"  # noqa: S105
    assert "sesame" not in repr(config)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('url = "sugar.example"', "url"),
        ('url = "https://me:secret@sugar.example"', "url"),
        ('url = "ftp://sugar.example"', "url"),
        ('token_file = "nowhere"', "token_file"),
        ("poll_s = 1", "poll_s"),
    ],
)
def test_a_site_that_cannot_be_asked_is_a_fault(tmp_path: Path, line: str, key: str) -> None:
    text = NIGHTSCOUT.replace('url = "https://sugar.example/"', line) if key == "url" else NIGHTSCOUT + line
    with pytest.raises(ConfigError) as caught:
        read(text, tmp_path)
    assert [fault.key.rpartition(".")[2] for fault in caught.value.faults] == [key]
