"""HTML and SVG that cannot be broken out of: every string is escaped unless it was made here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "br"})


class Markup(str):
    """Text that is markup already. Only `tag` and `join` make it, and the page's own style sheet."""

    __slots__ = ()


def tag(
    element: str, /, *children: str | Iterable[str | None] | None, **attributes: str | float | bool | None
) -> Markup:
    """An element. Children are strings, iterables of them, or None for nothing; all but Markup is escaped.

    An attribute of None or False is left out; a trailing underscore is dropped (`class_`) and others become dashes.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if element in _VOID:
        return Markup(f"<{element}{written}>")
    return Markup(f"<{element}{written}>{join(*children)}</{element}>")


def join(*children: str | Iterable[str | None] | None) -> Markup:
    """The children one after the other."""
    out = []
    for child in children:
        if isinstance(child, Markup):
            out.append(str(child))
        elif isinstance(child, str):
            out.append(escape(printable(child)))
        elif child is not None:
            out.append(join(*child))
    return Markup("".join(out))


def printable(text: str) -> str:
    """`text` without characters that no page may hold, or that turn the direction of what follows."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _value(value: str | float | bool) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return printable(str(value))
