"""The preferences, in one dialog."""

from __future__ import annotations

from typing import Any

import msgspec

from stembridge.errors import RequestError
from stembridge.reaper.preferences import locate_preferences, write_preferences
from stembridge.reaper.threads.form import CAPTIONS, read_fields, spell_field
from stembridge.reaper.turn import Start, Step, Turn

FIELDS = ("quality", "model", "stems", "output", "handles_s", "hold_while", "effects")


class Setting(msgspec.Struct, frozen=True):
    """The dialog that is open; nothing has to be known of it."""


def start(turn: Turn) -> None:
    """Show what is set now."""
    _ask(turn, "Stembridge: settings", [spell_field(turn.preferences, name) for name in FIELDS])


def _ask(turn: Turn, title: str, values: list[str]) -> None:
    captions = [CAPTIONS[name] for name in FIELDS]
    turn.ask(title, "", "settings.typed", Setting(), kind="fields", captions=captions, values=values)


def take_values(turn: Turn, _setting: Setting, result: Any) -> None:
    """Write what was typed; ask again where it is wrong."""
    if result.get("answer") != "yes":
        return
    values = [str(value) for value in result.get("values", [])]
    try:
        preferences = read_fields(
            turn.preferences, dict(zip(FIELDS, values, strict=True)), turn.house.settings
        )
    except RequestError as error:
        _ask(turn, str(error), values)
        return
    path = locate_preferences(turn.house.settings)
    write_preferences(path, preferences)
    turn.tell(
        f"The settings are in {path}. Names and colours of stems are set there too: "
        '[looks.vocals], then name = "Lead" and color = "#3288bd".'
    )


STARTS: dict[str, Start] = {"settings": start}
STEPS: dict[str, Step] = {"settings.typed": (Setting, take_values)}
