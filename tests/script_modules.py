"""The modules of REAPER's Python scripts, as they lie in this interpreter."""

from __future__ import annotations

import sys


def forget_scripts() -> None:
    """Make the next Python action import its modules anew, as one does in a REAPER that was just started.

    They are bound to the REAPER that has imported them, and may hold a loop that never ends without it.
    """
    for name in [name for name in sys.modules if name.startswith("stembridge_")]:
        if name.partition(".")[0] != "stembridge_daemon":
            del sys.modules[name]
