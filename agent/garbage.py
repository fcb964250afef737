"""How often the interpreter looks for garbage in cycles, of which the engine makes next to none."""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 10_000, 10, 200
"""Objects made since the last look at the youngest; looks at one generation for each at the next older one.

With the interpreter's own figures a ward of 1,000 would be looked at in full every few seconds, for 0.1 s each time.
"""


def settle() -> None:
    """What there is now is there to stay: never look at it again, and at the rest less often."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
