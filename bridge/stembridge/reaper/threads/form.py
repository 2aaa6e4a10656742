"""What a person types into a dialog about splitting, as preferences and back."""

from __future__ import annotations

from collections.abc import Mapping

from stembridge import catalog
from stembridge.errors import RequestError
from stembridge.quality import QUALITIES
from stembridge.reaper.preferences import EFFECTS, HOLDS, OUTPUTS, Preferences, change_preferences
from stembridge.reaper.requests import Options, choose_model
from stembridge.settings import Settings

TITLE = "Stembridge"
REST = "rest"
"""What stands behind the stroke where one stem and all the rest are wanted."""

CAPTIONS = {
    "quality": f"Quality: {' / '.join(QUALITIES)}",
    "model": "Model (empty: the quality's)",
    "stems": "Stems (empty: all; vocals/rest: two)",
    "output": f"Output: {' / '.join(OUTPUTS)}",
    "handles_s": "Seconds beyond the item",
    "hold_while": f"Wait while: {' / '.join(HOLDS)}",
    "effects": f"Take effects: {' / '.join(EFFECTS)}",
}
"""Field -> caption; no commas, which part captions in REAPER."""


def spell_field(preferences: Preferences, name: str) -> str:
    """Return the value of a field as a person types it."""
    if name == "stems":
        if preferences.two_stems:
            return f"{preferences.two_stems}/{REST}"
        return ", ".join(preferences.stems)
    value = getattr(preferences, name)
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_fields(preferences: Preferences, texts: Mapping[str, str], settings: Settings) -> Preferences:
    """Return ``preferences`` with what was typed into fields.

    Raises
    ------
    RequestError
        What is wrong with the first that is wrong.
    """
    changes: dict[str, object] = {}
    for name, text in texts.items():
        match name:
            case "stems":
                changes |= _read_stems(text)
            case "handles_s":
                changes[name] = _read_seconds(text)
            case "model":
                changes[name] = text.strip()
            case _:
                changes[name] = text.strip().lower()
    changed = change_preferences(preferences, changes, TITLE)
    model = catalog.find_model(choose_model(Options(), changed, settings))
    catalog.check_stems(model, (changed.two_stems,) if changed.two_stems else changed.stems)
    return changed


def _read_stems(text: str) -> dict[str, object]:
    first, stroke, second = text.partition("/")
    if not stroke:
        return {"stems": tuple(text.replace(",", " ").lower().split()), "two_stems": ""}
    if second.strip().lower() != REST or len(first.split()) != 1:
        raise RequestError(f"{TITLE}: stems = {text!r}", f"as vocals, drums or as vocals/{REST}")
    return {"stems": (), "two_stems": first.strip().lower()}


def _read_seconds(text: str) -> float:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise RequestError(f"{TITLE}: handles_s = {text!r}", "seconds, as 1 or 0.5") from None
