"""Waiting for an errand that a thread has sent off."""

from __future__ import annotations

import msgspec

from stembridge.reaper.house import Errand
from stembridge.reaper.turn import Turn
from stembridge.types import ErrorInfo

LOOK_S = 0.25
LOST = "lost"
"""Code of an errand that a restart of the daemon has taken away."""


def await_errand(turn: Turn, errand_id: str, then: str, carried: msgspec.Struct) -> Errand | None:
    """Return an errand that is over; else show how far it is, come back to step ``then``, and return None.

    One that was lost, because the daemon was restarted, is over with an error.
    """
    errand = turn.house.find_errand(errand_id)
    if errand is None:
        lost = ErrorInfo(LOST, "the daemon was restarted meanwhile", "run the action again")
        return Errand(errand_id, error=lost)
    if errand.is_over:
        return errand
    turn.panel = {"line": errand.text, "fraction": errand.fraction, "eta_s": None, "rows": []}
    turn.wait(LOOK_S, then, carried)
    return None
