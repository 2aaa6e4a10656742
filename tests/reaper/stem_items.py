"""What a user does to stems by hand, between two actions."""

from __future__ import annotations

from reaper_fake import Item, Take, Track
from studio import Studio


def find_stem(studio: Studio, stem: str, song: str = "song") -> Item:
    """Return the item of a stem by the name it was given."""
    name = f"{song} - {stem}"
    return next(item for item in studio.reaper.current.items if item.takes[0].name == name)


def find_stems(studio: Studio, song: str = "song") -> list[Item]:
    return [item for item in studio.reaper.current.items if item.takes[0].name.startswith(f"{song} - ")]


def active_take(item: Item) -> Take:
    assert item.active_take is not None
    return item.active_take


def track_of(item: Item) -> Track:
    assert item.track is not None
    return item.track


def is_muted(item: Item) -> bool:
    return bool(item.values.get("B_MUTE_ACTUAL"))


def delete_item(item: Item) -> None:
    track_of(item).items.remove(item)


def paste_item(studio: Studio, item: Item, position_s: float) -> Item:
    """Return a copy of an item on its own track, with all that is on it."""
    pasted = item.copy()
    pasted.guid = studio.reaper.new_guid()
    for take in pasted.takes:
        take.guid = studio.reaper.new_guid()
    pasted.values["D_POSITION"] = position_s
    return track_of(item).add_item(pasted)


def cut_item(studio: Studio, item: Item, at_s: float) -> Item:
    """Return the right one of the two pieces of an item that is cut ``at_s`` seconds behind its beginning."""
    right = paste_item(studio, item, item.position_s + at_s)
    right.values["D_LENGTH"] = item.length_s - at_s
    for take in right.takes:
        take.values["D_STARTOFFS"] = take.values.get("D_STARTOFFS", 0.0) + at_s
    item.values["D_LENGTH"] = at_s
    return right
