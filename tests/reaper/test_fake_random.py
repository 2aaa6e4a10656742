"""The generators give what they say, and the checker of folders is right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

from reaper_fake import FakeProject, FakeReaper, Track
from reaper_fake.random_items import fill_shelf, moved_tracks, parents_of, random_depths, random_item


def test_parents_by_hand() -> None:
    """Folders in folders, two closed at once, one never closed."""
    assert parents_of([]) == []
    assert parents_of([0, 1, 1, 0, -2, 0]) == [None, None, 1, 2, 2, None]
    assert parents_of([1, -1, 1, 0]) == [None, 0, None, 2]
    assert parents_of([1, 1, -1, 0, -1, 0]) == [None, 0, 1, 0, 0, None]


def test_two_ways_to_find_parents_agree() -> None:
    """1,500 random layouts: the model counts down, the checker looks back."""
    rng = Random(3)
    seen: Counter[int] = Counter()
    for _ in range(1500):
        depths = random_depths(rng, rng.randint(1, 14))
        seen.update(depths)
        project = FakeProject()
        for index, depth in enumerate(depths):
            project.insert_track(index, Track(str(index), values={"I_FOLDERDEPTH": float(depth)}))
        found = [None if parent is None else int(parent.guid) for _, parent in project.parents()]
        assert found == parents_of(depths)
    assert min(seen) <= -3 and seen[1] > 1000


def test_moved_track_is_found() -> None:
    """A folder that is closed too early, or a track that is lost, shows."""
    before = [("a", 1), ("b", 0), ("c", -1)]
    assert moved_tracks(before, [("a", 1), ("b", 1), ("new", -1), ("c", -1)]) == []
    assert moved_tracks(before, [("a", 1), ("b", 1), ("new", -2), ("c", 0)]) == [("c", "a", None)]
    assert moved_tracks(before, [("a", 1), ("b", -1)]) == [("c", "a", "gone")]


def test_items_cover_what_there_is(tmp_path: Path) -> None:
    """Among 2,000 items every kind of source, offset, loop, fade and value turns up, the same for a seed."""
    rng = Random(1)
    reaper = FakeReaper(tmp_path)
    paths = fill_shelf(rng, reaper)
    track = reaper.add_track("Mix")
    found: Counter[str] = Counter()
    for _ in range(2000):
        item = random_item(rng, reaper, track, paths)
        take = item.active_take
        assert take is not None and take.source is not None
        start, turn = take.values["D_STARTOFFS"], float(take.source.exact_length_s)
        found["section"] += take.source.parent is not None and not take.source.is_reversed
        found["reversed section"] += take.source.is_reversed and not take.source.is_whole
        found["reverse"] += take.source.is_whole
        found["loop that wraps"] += bool(item.values["B_LOOPSRC"]) and item.length_s > turn
        found["negative offset"] += start < 0
        found["overlong offset"] += start > turn
        found["play rate"] += take.values["D_PLAYRATE"] != 1
        found["automatic fade"] += item.values["D_FADEINLEN_AUTO"] > item.values["D_FADEINLEN"]
        found["polarity"] += take.values["D_VOL"] < 0
        found["two takes"] += len(item.takes) == 2
        found["markers"] += bool(take.markers)
        for key in ("B_MUTE_ACTUAL", "C_LOCK", "I_GROUPID", "I_FADELPF"):
            found[key] += bool(item.values[key])
        found[f"mode {take.values['I_CHANMODE']:g}"] += 1
        assert take.values["D_PLAYRATE"] == 1 or take.values["B_PPITCH"] == 0
    assert all(found[f"mode {mode}"] for mode in (0, 1, 2, 3, 4, 67))
    assert {name for name, count in found.items() if count < 10} == set(), found
    again = FakeReaper(tmp_path)
    rng = Random(1)
    paths = fill_shelf(rng, again)
    track = again.add_track("Mix")
    for _ in range(2000):
        random_item(rng, again, track, paths)
    assert again.state() == reaper.state()
