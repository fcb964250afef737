"""Whether a link that says it is connected still carries data: each stream is held to its own rate."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.chunk import Chunk, Stream

WAVEFORM_S = 10.0
"""A waveform comes several times a second, and a radio that repeats what was lost takes no longer than this."""
MISSED_READINGS = 2.5
SLACK_S = 30.0
"""Beside the readings missed, for sensors that send when it suits them."""
UNKNOWN_S = 900.0
"""For a stream that says nothing of how often it comes."""


def patience_s(stream: Stream) -> float:
    """For how long nothing may come of a stream, in seconds."""
    if stream.rate_hz:
        return max(WAVEFORM_S, 20 / stream.rate_hz)
    return MISSED_READINGS * stream.interval_s + SLACK_S if stream.interval_s else UNKNOWN_S


class Watchdog:
    """One connection's. Time in seconds of any clock that only goes forward.

    Whatever comes shows that the link lives, for as long as the most frequent stream may be silent. A waveform must
    come itself beside that: the device may have stopped it alone. Single readings need not, for a sensor without a
    finger in it has none to send.
    """

    def __init__(self, streams: Sequence[Stream], now_s: float) -> None:
        self._link_patience_s = min(map(patience_s, streams))
        self._link_s = now_s
        self._waveforms = {one.channel: (patience_s(one), now_s) for one in streams if one.rate_hz}

    def notified(self, now_s: float) -> None:
        """Something came, whatever it was."""
        self._link_s = now_s

    def heard(self, chunk: Chunk, now_s: float) -> None:
        """A stream came."""
        channel = chunk.stream.channel
        if channel in self._waveforms:
            self._waveforms[channel] = (self._waveforms[channel][0], now_s)

    def due_s(self) -> float:
        """When it has to be looked at next."""
        waveforms_s = [last_s + patience for patience, last_s in self._waveforms.values()]
        return min([self._link_s + self._link_patience_s, *waveforms_s])

    def silence(self, now_s: float) -> str:
        """What has been silent for too long, in words; empty: nothing."""
        if now_s >= self._link_s + self._link_patience_s:
            return f"connected, yet nothing came for {now_s - self._link_s:.0f} s"
        for channel, (patience, last_s) in self._waveforms.items():
            if now_s >= last_s + patience:
                return f"connected, yet no {channel} came for {now_s - last_s:.0f} s"
        return ""
