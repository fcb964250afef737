"""[power] in a config."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import ConfigError, PowerConfig, parse_config

MINIMAL = '[agent]\nid = "v"\n[[patient]]\nid = "p"\n[[patient.source]]\ntype = "mqtt"\ndevice = "d"\nchannel = "e"\n'
ECG = 'kind = "ecg"\nrate_hz = 250\nchannels = ["II"]\n'


def power_of(lines: str) -> PowerConfig:
    return parse_config(f"{MINIMAL}{ECG}{lines}", Path("/nowhere/v.toml"), {}).power


def test_it_is_minded_unless_the_config_says_otherwise() -> None:
    assert power_of("") == PowerConfig(True, 75, 82)
    assert power_of("[power]\nwarm_c = 60.0\nhot_c = 70.0\n") == PowerConfig(True, 60, 70)
    assert not power_of("[power]\nenabled = false\n").enabled


@pytest.mark.parametrize("lines", ["warm_c = 80.0\nhot_c = 80.0", "warm_c = 90.0", "hot_c = 60.0"])
def test_hot_is_above_warm(lines: str) -> None:
    with pytest.raises(ConfigError) as caught:
        power_of(f"[power]\n{lines}\n")
    (fault,) = caught.value.faults
    assert fault.key == "power.hot_c"
    assert "above warm_c" in fault.message
