"""The wearables and the adapter for the tests of real Bluetooth, which run in the guest that `make test-bluez` starts.

Everywhere else they are skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_bluetooth import STAGE, Ward, in_order


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("bluez") and not STAGE:
            item.add_marker(pytest.mark.skip(reason="needs the guest of make test-bluez"))


@pytest.fixture(scope="session")
def _ward() -> Iterator[Ward]:
    ward = Ward()
    yield ward
    ward.close()


@pytest.fixture
def ward(_ward: Ward) -> Ward:
    """Nothing is worn, and BlueZ runs, its adapter is on and it knows no device, as after a start of the machine."""
    _ward.take_off()
    asyncio.run(in_order())
    return _ward
