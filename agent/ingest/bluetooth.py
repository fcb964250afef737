"""Which Bluetooth the agent has: the platform's own, or the one that VAGUS_BLUETOOTH names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.config.ble import BleConfig
from agent.ingest.ble import BleSource
from agent.ingest.ble_radio import Backend

VARIABLE = "VAGUS_BLUETOOTH"
BONDS_FILE = "bonds.json"


class BluetoothSettingError(ValueError):
    """VAGUS_BLUETOOTH names nothing that can be used; the message says why."""


def bluetooth_source(
    wearables: Sequence[BleConfig], state_dir: Path, environ: Mapping[str, str] = os.environ
) -> BleSource:
    """The source of the wearables of a config; raises BluetoothSettingError."""
    backend = chosen_backend(wearables, state_dir, environ)
    return BleSource(wearables, backend_of=lambda _adapter: backend)


def chosen_backend(
    wearables: Sequence[BleConfig], state_dir: Path | None, environ: Mapping[str, str] = os.environ
) -> Backend | None:
    """The backend that VAGUS_BLUETOOTH names, with its bonds in `state_dir`; None: the platform's own is used.

    Raises BluetoothSettingError.
    """
    setting = environ.get(VARIABLE)
    if not setting:
        return None
    try:
        from agent.ingest.ble_bumble import bumble_backend, controller_of  # noqa: PLC0415 - needs bumble

        controller = controller_of(setting)
    except ImportError as error:
        raise BluetoothSettingError(
            f"{VARIABLE} asks for bumble, which is not installed: pip install bumble"
        ) from error
    except ValueError as error:
        raise BluetoothSettingError(str(error)) from error
    passkeys = {one.address: one.passkey for one in wearables}
    bonds = state_dir / BONDS_FILE if state_dir is not None else None
    return bumble_backend(controller, bonds=bonds, passkey=lambda address: passkeys.get(address.upper()))
