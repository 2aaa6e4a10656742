"""The actions a user finds in REAPER's list: one script file per language each, named after the title."""

from __future__ import annotations

ACTIONS = {
    "split": "Split selected items into stems",
    "split_choose": "Split selected items, choosing quality, stems and model",
    "vocals_instrumental": "Split selected items into vocals and instrumental",
    "drums_rest": "Split selected items into drums and the rest",
    "audition": "Audition stems at the edit cursor",
    "toggle": "Switch between original and stems",
    "remix": "Remix stems with a preset",
    "resplit": "Split again with another model",
    "import_stems": "Import stems from elsewhere",
    "null_test": "Null test of the selected items",
    "realign": "Realign stems to the original",
    "remove": "Remove stems and restore the original",
    "jobs": "Show jobs",
    "settings": "Settings",
    "check": "Check this REAPER",
}
"""Name in a note -> title in REAPER's action list."""

LOOP = "stembridge_Background work of the other actions"
"""Name of the Lua script that carries out what the actions leave to it; REAPER lists it among them."""


def file_stem(action: str) -> str:
    """Return the name of an action's script without its ending: author_Title, as REAPER users know it."""
    return f"stembridge_{ACTIONS[action]}"
