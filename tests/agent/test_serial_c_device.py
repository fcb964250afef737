"""The C example of vagus_frame.h as a device of its own, at the other end of a terminal device that the agent reads."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tty
from pathlib import Path

import numpy as np
import pytest
from test_serial_source import at_once, hearing

from agent.config.serial import SerialConfig
from agent.ingest import serial_port
from firmware_bridge.chunk import Stream

C_DIR = Path(__file__).parents[2] / "firmware_bridge" / "c"
ECG = Stream("p1", "strap", "ecg", "ecg", "mV", 250.0)
MAIN = """
#include <unistd.h>
uint16_t boot_id = 0x1234;
static int deaf; /* what is written meanwhile never arrives */
void send_ecg(const int16_t *adc, uint64_t first_us);
void on_byte(uint8_t byte);
void uart_write(const uint8_t *data, size_t size) {
    if (!deaf && write(1, data, size) != (ssize_t)size) _exit(1);
}
int main(void) {
    uint8_t byte;
    uint32_t n, k;
    int16_t adc[SAMPLES];
    if (read(0, &byte, 1) != 1) return 1; /* the host has opened the port */
    for (n = 0; n < 8; n++) {
        for (k = 0; k < SAMPLES; k++) adc[k] = (int16_t)(100 * n + k);
        deaf = n == 5;
        send_ecg(adc, (uint64_t)n * 400000u);
    }
    while (read(0, &byte, 1) == 1) on_byte(byte);
    return 0;
}
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def test_firmware_in_c_is_heard_and_sends_again_what_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "FIRST_WAIT_S", 0.01)
    (example,) = re.findall(r"```c\n(.*?)```", (C_DIR / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "strap.c").write_text(f"{example}\n{MAIN}")
    program = tmp_path / "strap"
    subprocess.run(["gcc", "-std=gnu99", "-O2", f"-I{C_DIR}", "-o", program, tmp_path / "strap.c"], check=True)

    async def scenario() -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        device = await asyncio.create_subprocess_exec(program, stdin=master, stdout=master)
        os.close(master)
        async with hearing(SerialConfig(ECG, os.ttyname(slave), 3)) as heard:
            await heard.until(lambda h: len(h.chunks) == 8)
            assert [chunk.seq for chunk in heard.chunks] == [0, 1, 2, 3, 4, 6, 7, 5]
            assert {chunk.boot_id for chunk in heard.chunks} == {0x1234}
            millivolts = np.float32(0.005) * (500 + np.arange(100))
            np.testing.assert_allclose(heard.chunks[-1].samples[:, 0], millivolts, rtol=1e-6)
            assert heard.status.counts == {"openings": 1, "frames asked for again": 1}
        device.kill()
        await device.wait()
        os.close(slave)

    at_once(scenario())
