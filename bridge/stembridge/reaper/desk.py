"""Answers the notes of scripts: an action begins a thread, an order's result takes it one step on.

The desk keeps nothing between two notes; see docs/reaper-conversation.md.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import msgspec

from stembridge.errors import ProtocolError, RequestError, StembridgeError
from stembridge.reaper.house import House
from stembridge.reaper.preferences import Preferences, locate_preferences, read_preferences
from stembridge.reaper.snapshot import Host
from stembridge.reaper.threads import (
    auditioning,
    checking,
    choosing,
    importing,
    job_listing,
    null_testing,
    realigning,
    remixing,
    removing,
    setting,
    splitting,
    splitting_again,
    toggling,
)
from stembridge.reaper.turn import Result, Start, Step, Turn, unpack

logger = logging.getLogger(__name__)

VERSION = 1
HOLD_S = 2.0
"""How long a word about recording holds; scripts say something several times a second."""

_THREADS = (
    auditioning,
    checking,
    choosing,
    importing,
    job_listing,
    null_testing,
    realigning,
    remixing,
    removing,
    setting,
    splitting,
    splitting_again,
    toggling,
)
"""The modules that hold the threads: each has a table of what begins one and of what takes it on."""

STARTS: dict[str, Start] = {name: start for module in _THREADS for name, start in module.STARTS.items()}
"""What begins each of `stembridge.reaper.actions.ACTIONS`."""

STEPS: dict[str, Step] = {name: step for module in _THREADS for name, step in module.STEPS.items()}
"""What an order's ``then`` names."""


class _Versioned(msgspec.Struct, frozen=True):
    """What a note of every version has."""

    v: int


class Note(msgspec.Struct, frozen=True, rename={"carried": "with"}):
    """What a script says."""

    v: int
    say: str
    script: str = ""
    host: Host = Host()
    memory: dict[str, str] = {}
    action: str = ""
    then: str = ""
    carried: str = ""
    result: Result | None = None
    row: str = ""
    rows: tuple[str, ...] = ()


class Desk:
    """Answers notes on behalf of ``house``."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._preferences = Preferences()

    def answer(self, note: bytes) -> bytes:
        """Return the reply to a note, both as JSON; what is wrong with a note is said in the reply."""
        try:
            reply = self._reply(_read_note(note))
        except StembridgeError as error:
            reply = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        except Exception:
            # The script is told whatever its note led a step into, or it would wait; the trace is in the log.
            logger.exception("a note could not be answered")
            failure = {"code": "internal", "message": "the daemon failed on this note"}
            reply = {"error": failure | {"hint": "stembridge daemon logs"}}
        return msgspec.json.encode({"v": VERSION} | reply)

    def _reply(self, note: Note) -> dict[str, Any]:
        preferences = self._read_preferences(is_new=note.say == "act")
        self._hold(note.host, preferences)
        turn = Turn(self._house, note.host, note.memory, preferences)
        match note.say:
            case "act" if note.action in STARTS:
                logger.info("REAPER (%s): %s", note.script, note.action)
                STARTS[note.action](turn)
            case "resume" if note.then in STEPS:
                kind, step = STEPS[note.then]
                step(turn, unpack(note.carried, kind), note.result or {})
            case "cancel":
                for row in note.rows if note.row == "all" else (note.row,):
                    with suppress(RequestError):
                        self._house.cancel_job(row.partition("/")[0])
            case "ping":
                # What the script is doing has been heard.
                pass
            case _:
                asked = note.action or note.then or note.say
                raise RequestError(
                    f"the script asks for {asked!r}, which this daemon does not know",
                    "update the older of the two: stembridge reaper install",
                )
        reply: dict[str, Any] = {"orders": turn.orders}
        return reply if turn.panel is None else reply | {"panel": turn.panel}

    def _read_preferences(self, *, is_new: bool) -> Preferences:
        """Return what the user has set; what is under way goes on with what was set before a typo."""
        try:
            self._preferences = read_preferences(locate_preferences(self._house.settings))
        except RequestError as error:
            if is_new:
                raise
            logger.warning("the last good preferences are used: %s", error)
        return self._preferences

    def _hold(self, host: Host, preferences: Preferences) -> None:
        if preferences.hold_while != "never" and (
            host.is_recording or (host.is_playing and preferences.hold_while == "playing")
        ):
            self._house.hold(HOLD_S)


def _read_note(text: bytes) -> Note:
    try:
        version = msgspec.json.decode(text, type=_Versioned).v
        if version != VERSION:
            raise ProtocolError(
                f"the script speaks version {version}, this daemon speaks {VERSION}",
                "stembridge reaper install, then stembridge daemon stop",
            )
        return msgspec.json.decode(text, type=Note)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the script's note is not understood: {error}", "stembridge reaper install"
        ) from None
