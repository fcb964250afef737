"""One wearable, visit by visit: found, connected, paired where it must be, checked, begun, listened to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.config.ble import BleConfig
from agent.ingest.ble_account import Account
from agent.ingest.ble_adapter import Adapter
from agent.ingest.ble_errors import RadioError
from agent.ingest.ble_link import DISCONNECT_S, BleLink
from agent.ingest.ble_pacing import Backoff
from agent.ingest.ble_pairing import BondDoubt, PairingWindow, PerhapsUnpairedError
from agent.ingest.ble_radio import Sighting, at_most, obey
from agent.ingest.ble_watchdog import Watchdog
from agent.ingest.device_status import DeviceStatus
from firmware_bridge.chunk import Chunk, DecodeError
from firmware_bridge.devices import Arrival, DeviceRefusedError, Heard, LinkError, Profile

if TYPE_CHECKING:
    from bleak import BleakClient

log = logging.getLogger(__name__)

START_S = 60.0
"""All the handshakes of a device together."""
GOODBYE_S = 2.0
GARBLED = 3
"""So often in a row, and somebody has to see to it: once may be the air."""
FRESH_S = 10.0
"""A device that was heard longer ago may have gone again."""
FIND_AGAIN_S = 30.0
NAMESAKES_S = 3.0
"""Others with the same name would be heard in this time."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
FORGET_EVERY_S = 600.0
"""A device that has not what it should may have been updated; to ask it anew what it has takes a while."""
STEADY_S = 60.0
"""A link that lasted so long makes the next failure a first one."""


class BleDevice:
    """A wearable of the config, for the life of the process."""

    def __init__(
        self,
        config: BleConfig,
        profile: Profile,
        adapter: Adapter,
        arrival: Callable[[], Arrival],
        deliver: Callable[[Chunk], None],
        window: PairingWindow,
        chance: Callable[[], float],
    ) -> None:
        """`arrival`: when now is; `deliver`: where its chunks go; `chance`: a number from 0 to 1 for the waits."""
        self.config, self.profile = config, profile
        self.account = Account(config.patient, config.device)
        self.adapter, self.window = adapter, window
        self._arrival, self._deliver = arrival, deliver
        self._backoff = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S, chance)
        wanted = {stream.channel: stream for stream in config.streams}
        self._session = profile.open(wanted, config.options, self._hear)
        self._watchdog = Watchdog(config.streams, 0.0)
        self.is_linked = False
        """Whether there is a link to it, or it is being connected to."""
        self.address = config.address
        """The one it was last heard with."""
        self._sends_since_s: float | None = None
        self._has_sent = False
        """Whether anything came over the link that there is, or was last."""
        self._doubt = BondDoubt()
        self._was_connected = False
        """Whether the last attempt to connect to it worked."""
        self._garbled = 0
        """Times in a row that it refused something, or answered with something else, without saying why."""
        self._failure = ""
        """The last one since it worked: what comes again and again is logged once."""
        self._forgot_s: float | None = None
        """When its cached services were last forgotten, since it last worked."""

    def is_it(self, address: str, name: str) -> bool:
        """Whether a device with this address and name is the one of the config."""
        return address == self.config.address if self.config.address else name == self.config.name

    def status(self, now_s: float) -> DeviceStatus:
        """How it stands with it; `now_s` on the event loop's clock."""
        return self.account.status(now_s)

    async def run(self) -> None:
        """Keep in touch with it until cancelled."""
        self.account.say("searching", _now_s())
        try:
            while True:
                wait_s = await self._one_round()
                obey()
                await asyncio.sleep(wait_s)
                await self.adapter.turn()
        finally:
            self.account.say("stopped", _now_s(), "the agent does not run")

    async def _one_round(self) -> float:
        """From one search to the end of the link that came of it; returns the seconds to wait before the next."""
        self._sends_since_s, self._has_sent = None, False
        try:
            await self._visit()
        except (LinkError, RadioError, DeviceRefusedError, DecodeError) as error:
            self._failed(error)
        except Exception as error:
            log.exception("%s: fault while speaking with it", self.config.device)
            self.account.refused(f"speaking with it failed ({type(error).__name__})", _now_s())
        else:
            self.account.say("searching", _now_s())
        steady = self._sends_since_s is not None and _now_s() - self._sends_since_s >= STEADY_S
        if steady or self._has_sent:  # a meter hangs up once it has said what it measured
            self._backoff.worked()
            return 0.0
        return self._backoff.failed()

    async def _visit(self) -> None:
        """Find it, connect, and stay until the link is no more."""
        sighting = await self.adapter.find(self._is_sighted)
        if not self.config.address:
            await self._refuse_namesakes(sighting)
        if self.adapter.is_full:
            self.account.say("connecting", _now_s(), f"waits for one of the adapter's {self.adapter.links} links")
        async with self.adapter.link():
            if _now_s() - sighting.at_s > FRESH_S:
                sighting = await self._find_again()
            self.account.sighted(sighting.rssi_dbm)
            self.account.say("connecting", _now_s())
            if self.profile.bonds and sighting.bonded is False and not self.window.is_open(_now_s()):
                raise LinkError("bond", "it is not paired")
            try:
                await self._connect(sighting)
            except LinkError as error:
                may_pair = self.window.is_open(_now_s())
                judged = self._doubt.failed(error, sighting.bonded, may_pair=may_pair, connected=self._was_connected)
                await self._forget_where_of_use(judged, sighting)
                raise judged from error

    async def _connect(self, sighting: Sighting) -> None:
        lost = asyncio.Event()
        self.is_linked, self._was_connected = True, False
        try:
            client = await self.adapter.connect(sighting, lost.set)
            self._was_connected = True
            self.account.count("connections")
            try:
                await self._converse(BleLink(client, self._arrival, self._notified, lost), sighting)
            finally:
                await self._disconnect(client, lost)
        finally:
            self.is_linked = False

    async def _disconnect(self, client: BleakClient, lost: asyncio.Event) -> None:
        """Also where the link is lost: with BlueZ every client holds a socket until it is told so."""
        lost.set()
        await at_most(DISCONNECT_S, client.disconnect(), f"{self.config.device}: disconnecting")

    async def _converse(self, link: BleLink, sighting: Sighting) -> None:
        """Until the link is lost, or is as good as lost."""
        self._check(link)
        if self.profile.bonds and sighting.bonded is False:
            await self._pair(link)
        try:
            async with asyncio.timeout(START_S):
                await self._begin(link)
        except TimeoutError:
            raise LinkError("timeout", f"it did not begin to send in {START_S:.0f} s") from None
        self._forgot_s, self._failure, self._garbled = None, "", 0
        self._doubt.worked()
        self._watchdog = Watchdog(self.config.streams, _now_s())
        self._sends_since_s = _now_s()
        self.account.sends(_now_s())
        log.info("%s: connected, at %d dBm", self.config.device, sighting.rssi_dbm)
        try:
            ended = await self._stay(link)
        except asyncio.CancelledError:
            if not link.lost.is_set():
                await at_most(GOODBYE_S, self._session.stop(link), f"{self.config.device}: stopping it")
            raise
        log.warning("%s: %s", self.config.device, ended)

    async def _begin(self, link: BleLink) -> None:
        """Make it send; pair with it where it asks for that and may be paired."""
        try:
            await self._session.start(link)
        except LinkError as error:
            if error.fault != "bond" or not self.window.is_open(_now_s()):
                raise
            await self._pair(link)
            await self._session.start(link)

    async def _pair(self, link: BleLink) -> None:
        self.account.say("connecting", _now_s(), "is being paired")
        await link.pair()

    async def _stay(self, link: BleLink) -> str:
        """Listen; returns why that ended."""
        lost = asyncio.create_task(_wait_for(link.lost))
        others = {
            asyncio.create_task(self._session.tend(link)),
            asyncio.create_task(self.account.ask_about_itself(link)),
        }
        try:
            while True:
                now_s = _now_s()
                if link.lost.is_set():
                    self.account.count("links lost")
                    return "the link is lost"
                silence = self._watchdog.silence(now_s)
                if silence:
                    self.account.count("silent links")
                    return silence
                timeout_s = self._watchdog.due_s() - now_s
                done, _ = await asyncio.wait({lost, *others}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done & others:
                    others.discard(task)
                    self._tended(task)
        finally:
            for task in (lost, *others):
                task.cancel()
            await asyncio.gather(lost, *others, return_exceptions=True)

    def _tended(self, task: asyncio.Task[None]) -> None:
        """What a device refuses beside its readings costs nothing but itself; a broken link ends the visit."""
        try:
            task.result()
        except (DeviceRefusedError, DecodeError) as error:
            self.account.count("refused requests")
            log.warning("%s: %s", self.config.device, error)
        except LinkError as error:
            if error.fault in {"lost", "timeout", "bond"}:
                raise
            self.account.count("refused requests")
            log.warning("%s: %s", self.config.device, error)

    def _check(self, link: BleLink) -> None:
        """Whether it is what the config says it is, and its link wide enough."""
        missing = self.profile.characteristics - link.characteristics
        if missing:
            raise LinkError("missing", f"it lacks what a {self.profile.name} has ({', '.join(sorted(missing))})")
        unknown = self.adapter.radio.is_bluez and link.mtu == 23  # BlueZ before 5.62 does not tell it
        if link.mtu < self.profile.min_mtu and not unknown:
            self.account.count("packets too small")
            raise DeviceRefusedError(
                f"its link carries packets of {link.mtu} bytes, a {self.profile.name} needs {self.profile.min_mtu}"
            )

    async def _forget_where_of_use(self, error: LinkError, sighting: Sighting) -> None:
        """Services cached before an update of its firmware are forgotten now and then, a bond that it has lost too."""
        certain = error.fault == "bond" and not isinstance(error, PerhapsUnpairedError)
        lost_bond = certain and sighting.bonded is not False
        stale = error.fault == "missing" and self._may_forget()
        if not stale and not lost_bond:
            return
        may_be_bonded = self.profile.bonds and sighting.bonded is not False
        if (lost_bond or may_be_bonded) and not self.window.is_open(_now_s()):
            return  # it could not be paired again
        self._forgot_s = _now_s() if stale else self._forgot_s
        self.account.count("services forgotten" if stale else "bond forgotten")
        log.warning("%s: %s: forgotten, to get to know it anew", self.config.device, error)
        with suppress(LinkError):
            await self.adapter.forget(sighting)

    def _may_forget(self) -> bool:
        return self._forgot_s is None or _now_s() - self._forgot_s >= FORGET_EVERY_S

    async def _refuse_namesakes(self, sighting: Sighting) -> None:
        """Somebody else's readings are worse than none: a name that two devices have is no name."""
        addresses = {sighting.address}

        def note(other: Sighting) -> bool:
            if self._is_sighted(other):
                addresses.add(other.address)
            return False

        with suppress(TimeoutError):
            async with asyncio.timeout(NAMESAKES_S):
                await self.adapter.find(note)
        if len(addresses) > 1:
            raise DeviceRefusedError(
                f'{len(addresses)} devices are called "{self.config.name}": write the address of the one that is meant'
            )

    async def _find_again(self) -> Sighting:
        try:
            async with asyncio.timeout(FIND_AGAIN_S):
                return await self.adapter.find(self._is_sighted)
        except TimeoutError:
            raise LinkError("lost", "it was heard, and has gone again") from None

    def _failed(self, error: Exception) -> None:
        """It did not come to a conversation, or the conversation broke off."""
        fault = error.fault if isinstance(error, LinkError) else ""
        self.account.count("connection failures")
        log.log(logging.DEBUG if str(error) == self._failure else logging.WARNING, "%s: %s", self.config.device, error)
        self._failure = str(error)
        self._garbled = self._garbled + 1 if isinstance(error, DecodeError) or fault == "refused" else 0
        if fault == "bond":
            words = self.window.words(_now_s())
            self.account.refused(error.words(words) if isinstance(error, PerhapsUnpairedError) else words, _now_s())
        elif isinstance(error, DeviceRefusedError) or fault == "missing" or self._garbled >= GARBLED:
            self.account.refused(str(error), _now_s())
        else:
            self.account.say("searching", _now_s(), str(error))

    def _is_sighted(self, sighting: Sighting) -> bool:
        ours = self.is_it(sighting.address, sighting.advertisement.name)
        if ours:
            self.address = sighting.address
            self.account.sighted(sighting.rssi_dbm)
        return ours

    def _notified(self, characteristic: str, data: bytes, arrival: Arrival) -> None:
        """Called by the radio: whatever is wrong with what came must not reach it."""
        self._watchdog.notified(_now_s())
        try:
            if not self.account.took(characteristic, data):
                self._session.notified(characteristic, data, arrival)
        except DecodeError as error:
            self.account.malformed(error)
        except Exception as error:
            self.account.fault(error)

    def _hear(self, heard: Heard) -> None:
        now_s = _now_s()
        for chunk in heard.chunks:
            self._has_sent = True
            self._watchdog.heard(chunk, now_s)
            self._deliver(chunk)
        self.account.hear(heard)


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
