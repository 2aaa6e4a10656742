"""One note being answered: what is known, and the orders so far. docs/reaper-conversation.md."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import msgspec

from stembridge.errors import RequestError
from stembridge.reaper.house import House
from stembridge.reaper.operations import Operation
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.snapshot import Host

_Carried = TypeVar("_Carried")
_MAX_CARRIED_BYTES = 64 * 1024 * 1024


class Result(TypedDict, total=False):
    """What can have come of an order, in the table of docs/reaper-conversation.md; a snapshot's own parts are
    `stembridge.reaper.snapshot.read_snapshot`'s to check.
    """

    ok: bool
    reason: str
    at: float
    text: str
    ms: float
    made: dict[str, str]
    read: dict[str, str]
    answer: str
    values: list[str]
    samples: list[int]
    done: bool
    project: Any
    host: Any
    tracks: Any
    items: Any


def pack(carried: msgspec.Struct | None) -> str:
    """Return what an order is about as one word, which the script hands back as it is."""
    return base64.b85encode(zlib.compress(msgspec.msgpack.encode(carried), 1)).decode()


def unpack(text: str, kind: type[_Carried]) -> _Carried:
    """Return what `pack` has packed.

    Raises
    ------
    RequestError
        It is not, or another version has packed it.
    """
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(base64.b85decode(text), _MAX_CARRIED_BYTES)
        return msgspec.msgpack.decode(content, type=kind)
    except (ValueError, zlib.error, msgspec.MsgspecError, RecursionError):
        raise RequestError(
            "the script sent back what this daemon has not packed", "run the action again"
        ) from None


@dataclass(slots=True)
class Turn:
    """What the steps of a thread work with.

    Each method that gives an order with ``then`` names the step that gets its result, and what that step will
    need to know.
    """

    house: House
    host: Host
    memory: Mapping[str, str]
    preferences: Preferences
    orders: list[dict[str, Any]] = field(default_factory=list)
    panel: dict[str, Any] | None = None

    def collect(self, what: str, then: str, carried: msgspec.Struct | None = None, **fields: Any) -> None:
        """Have a snapshot taken: of the selection, of items by ``guids``, of their kin, of what is tagged."""
        self._order("collect", then, carried, what=what, **fields)

    def apply(
        self, label: str, operations: Sequence[Operation], then: str, carried: msgspec.Struct | None = None
    ) -> None:
        """Have operations carried out as one undo step; as none where ``label`` is ''."""
        self._order("apply", then, carried, undo=label, ops=list(operations))

    def wait(self, seconds: float, then: str, carried: msgspec.Struct | None = None) -> None:
        """Come back in a while."""
        self._order("wait", then, carried, seconds=seconds)

    def ask(
        self, title: str, text: str, then: str, carried: msgspec.Struct | None = None, **fields: Any
    ) -> None:
        """Ask the user; ``kind`` is yes_no where nothing else is said."""
        self._order("ask", then, carried, **({"kind": "yes_no"} | fields), title=title, text=text)

    def listen(
        self, guid: str, start_s: float, frames: int, rate: int, then: str, carried: msgspec.Struct | None
    ) -> None:
        """Have REAPER read the first channel of an item's source."""
        self._order("listen", then, carried, guid=guid, start_s=start_s, frames=frames, rate=rate)

    def undo(self, label: str, then: str, carried: msgspec.Struct | None = None) -> None:
        """Have the last undo step undone, if it is the one called ``label``."""
        self._order("undo", then, carried, label=label)

    def play(self, then: str, carried: msgspec.Struct | None = None, *, on: bool) -> None:
        """Start or stop playing from the edit cursor."""
        self._order("play", then, carried, on=on)

    def tell(self, text: str, *, is_error: bool = False) -> None:
        """Say something to the user, in the panel and in the summary."""
        self.orders.append({"do": "tell", "text": text, "is_error": is_error})

    def remember(self, key: str, value: str) -> None:
        """Have the script keep a text for good; it comes back in ``memory``."""
        self.orders.append({"do": "remember", "key": key, "value": value})

    def _order(self, do: str, then: str, carried: msgspec.Struct | None, **fields: Any) -> None:
        self.orders.append({"do": do, **fields, "then": then, "with": pack(carried)})


Start = Callable[[Turn], None]
"""Begins a thread for an action."""
Step = tuple[type[msgspec.Struct], Callable[[Turn, Any, Any], None]]
"""What is carried to a step of a thread, and what it does with that and with the order's result."""
