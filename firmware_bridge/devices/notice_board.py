"""What a device says of itself again and again, told when it changes."""

from __future__ import annotations

from firmware_bridge.devices.session import Notice


class NoticeBoard:
    """One notice stands for each thing that notices are about; at first, all is well."""

    def __init__(self) -> None:
        self._standing: dict[str, Notice] = {}

    def put(self, *notices: Notice) -> tuple[Notice, ...]:
        """Those of `notices` that say something else than what stands; they stand now."""
        news = tuple(
            notice for notice in notices if notice != self._standing.get(notice.about, Notice(notice.about, ""))
        )
        self._standing |= {notice.about: notice for notice in news}
        return news
