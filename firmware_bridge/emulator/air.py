"""What Bluetooth controllers made of software hear of each other: bumble's link, with what it leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bumble import core, hci, ll
from bumble.controller import Connection, Controller
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, PacketParser, Transport

ACL_BYTES = 251
"""What one packet between host and controller carries; bumble's 27 make nine of a frame of ECG."""


class Air(LocalLink):  # type: ignore[misc]
    """The space in which virtual controllers hear each other. Everything in it lives on one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters: list[VirtualController] = []
        """Those that are lent to centrals, the latest last: to be pulled out, or to be let hang."""

    def controller(self, name: str) -> VirtualController:
        """A controller in this space."""
        return VirtualController(name, link=self)

    async def adapter(self) -> Transport:
        """A controller for a central in this process, as bumble reaches any; closing it takes it out of the space."""
        return _AirTransport(self.lend())

    def lend(self) -> VirtualController:
        """A controller for a central."""
        self.adapters.append(self.controller("adapter"))
        return self.adapters[-1]

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
        """Lend controllers to centrals in other processes, over TCP: whoever connects has one of its own.

        Gives the port. Bumble reaches it as "tcp-client:HOST:PORT".
        """
        lent: set[_HciOverTcp] = set()
        server = await asyncio.get_running_loop().create_server(lambda: _HciOverTcp(self, lent), host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for one in list(lent):
                one.close()
            await server.wait_closed()

    def send_acl_data(
        self, sender: Controller, destination: hci.Address, transport: core.PhysicalTransport, data: bytes
    ) -> None:
        # Bumble takes the address that the sender has now; a connection keeps the one with which it began.
        connection = sender.le_connections.get(destination)
        receiver = self.find_le_controller(destination)
        if connection is None or receiver is None:
            return
        asyncio.get_running_loop().call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_ll_control_pdu(
        self, sender_address: hci.Address, receiver_address: hci.Address, packet: ll.ControlPdu
    ) -> None:
        # Who is not there any more does not hear it; bumble would raise in the middle of a disconnection.
        if self.find_le_controller(receiver_address) is not None:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)


class VirtualController(Controller):  # type: ignore[misc]
    """A controller made of software that can also go wrong."""

    pending_le_connection: Any
    le_acl_data_packet_length = ACL_BYTES
    acl_data_packet_length = ACL_BYTES

    answers = True
    """Whether it does anything at all; False: it hangs, as real ones do."""

    def on_packet(self, packet: bytes) -> None:
        if self.answers:
            super().on_packet(packet)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if self.answers:
            super().send_hci_packet(packet)

    def on_advertising_pdu(self, pdu: Any) -> None:
        if self.le_scan_enable or self.pending_le_connection:
            super().on_advertising_pdu(pdu)

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> hci.HCI_StatusReturnParameters:
        self.break_links(hci.HCI_REMOTE_USER_TERMINATED_CONNECTION_ERROR)
        self._fall_silent()
        return super().on_hci_reset_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        pending: Any = self.pending_le_connection
        self.pending_le_connection = None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_COMMAND_DISALLOWED_ERROR)
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address.address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
        )
        return super().on_hci_le_create_connection_cancel_command(command)

    def break_links(self, reason: int = hci.HCI_CONNECTION_TIMEOUT_ERROR) -> None:
        """Every connection ends at both ends; for `reason` the other one stays silent unless it is said otherwise."""
        for connection in list(self.le_connections.values()):
            peer = self.link.find_le_controller(connection.peer_address)
            ours = connection.self_address
            self.on_le_disconnected(connection, reason)
            if peer is not None and (theirs := peer.le_connections.get(ours)) is not None:
                peer.on_le_disconnected(theirs, reason)

    def pull_out(self) -> None:
        """It is no more, as its host is told; whoever was connected notices after a while, here at once."""
        self.break_links()
        self._fall_silent()
        self.link.controllers.discard(self)
        if self in self.link.adapters:
            self.link.adapters.remove(self)
            if self.host is not None:
                self.host.on_transport_lost()

    def on_le_disconnected(self, connection: Connection, reason: int) -> None:
        # Both ends may hang up at once; bumble raises over the second time.
        if self.le_connections.get(connection.peer_address) is connection:
            super().on_le_disconnected(connection, reason)

    def _fall_silent(self) -> None:
        self.le_scan_enable = False
        self.pending_le_connection = None
        self.le_legacy_advertiser.stop()
        for advertising_set in self.advertising_sets.values():
            advertising_set.stop()


class _AirTransport(Transport):  # type: ignore[misc]
    def __init__(self, controller: VirtualController) -> None:
        super().__init__(controller, AsyncPipeSink(controller))
        self.controller = controller

    async def close(self) -> None:
        self.controller.set_packet_sink(None)  # a host that lets go wants to hear no more
        self.controller.pull_out()


class _HciOverTcp(asyncio.Protocol):
    """One central's way to a controller of its own; it stays in `lent` as long as it stands."""

    def __init__(self, air: Air, lent: set[_HciOverTcp]) -> None:
        self._controller = air.lend()
        self._controller.set_packet_sink(self)
        self._lent = lent
        self._transport: asyncio.WriteTransport | None = None
        self._parser = PacketParser(self._controller)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - what a stream protocol is given
        self._transport = transport
        self._lent.add(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_packet(self, packet: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lent.discard(self)
        self._controller.pull_out()

    def on_transport_lost(self) -> None:
        """What a host is told when its controller is pulled out."""
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
