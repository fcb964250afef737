"""A device on a serial line in the config: four lines, and a precise word where they cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from agent.config import Config, ConfigError, SerialConfig, parse_config, streams

STRAP = """
[agent]
id = "a"
[[patient]]
id = "p1"
[[patient.source]]
type = "serial"
port = "/dev/serial/by-id/usb-strap"
kind = "ecg"
rate_hz = 250
"""


def read(text: str) -> Config:
    return parse_config(text, Path("vagus.toml"), {})


def sources(config: Config) -> list[SerialConfig]:
    return [one for patient in config.patients for one in patient.sources if isinstance(one, SerialConfig)]


def test_port_kind_and_rate_are_enough() -> None:
    config = read(STRAP)
    (source,) = sources(config)
    assert (source.port, source.baud, source.stream_id) == ("/dev/serial/by-id/usb-strap", 115200, 0)
    assert (source.stream.key, source.stream.rate_hz, source.stream.unit) == ("p1/serial/ecg", 250.0, "mV")
    assert streams(config) == {("serial", "ecg"): (source.stream, "cbor")}


def test_the_lines_of_the_documentation_are_a_config() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serial.md").read_text("utf-8")
    (lines,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (source,) = sources(read(f'[agent]\nid = "a"\n[[patient]]\nid = "p1"\n{dedent(lines)}'))
    assert (source.stream_id, source.stream.kind, source.stream.rate_hz) == (3, "ecg", 250.0)


def test_streams_of_one_port_may_be_several_patients() -> None:
    more = STRAP.partition("[[patient.source]]")[2].replace('"ecg"', '"acc"')
    text = (
        f'{STRAP}unit = "uV"\nstream = 3\n[[patient]]\nid = "p2"\n[[patient.source]]{more}'
        'stream = 4\ndevice = "band"\nchannel = "moves"\nchannels = ["x", "y", "z"]\nbaud = 115200\n'
    )
    first, second = sources(read(text))
    assert (first.stream_id, first.stream.sent_unit) == (3, "uV")
    assert (second.stream_id, second.stream.key, second.stream.channels) == (4, "p2/band/moves", ("x", "y", "z"))


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (STRAP.replace("/dev/serial", "COM3"), "port", "must be a device file"),
        (STRAP.replace("rate_hz = 250", ""), "rate_hz", "is required"),
        (STRAP + "baud = 300\n", "baud", ""),
        (STRAP + "stream = 256\n", "stream", ""),
        (STRAP + 'format = "cbor"\n', "format", ""),
        (
            STRAP + "[[patient.source]]" + STRAP.partition("[[patient.source]]")[2] + 'channel = "b"',
            "stream",
            "on line 8",
        ),
        (
            STRAP
            + "[[patient.source]]"
            + STRAP.partition("[[patient.source]]")[2]
            + 'channel = "b"\nstream = 1\nbaud = 9600',
            "baud",
            "9600 is not the 115200 that line",
        ),
    ],
)
def test_what_cannot_be_is_a_fault_at_its_key(text: str, key: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (fault,) = caught.value.faults
    assert fault.key.rpartition(".")[2] == key
    assert said in str(fault)
