"""Random items split, edited, put back, split again and removed: by ear, and by the null test."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from fakes import FakeSeparator
from reaper_fake import Item
from reaper_fake.random_items import EDITS, random_item
from stem_items import active_take, delete_item, is_muted, paste_item
from stembridge.manifest import read_manifest
from stembridge.wavfile import write_wav
from studio import YES, Studio, fields

ITEMS = 8
VALUES_ONLY = sorted(set(EDITS) - {"split"})


def write_sources(studio: Studio, seed: int) -> list[str]:
    noise = np.random.default_rng(seed)
    paths = []
    for number, (rate, channels) in enumerate([(44100, 2), (48000, 1), (22050, 2), (8000, 2)]):
        path = studio.folder / f"source{number}.wav"
        samples = noise.integers(-(2**21), 2**21, (channels, rate // 4)) / 2.0**23
        write_wav(path, samples, rate, "PCM_24")
        paths.append(str(path))
    return paths


def add_items(studio: Studio, rng: Random, seed: int, count: int) -> list[Item]:
    """Return new items, each with a name and a track of its own."""
    paths = write_sources(studio, seed)
    items = []
    for number in range(count):
        item = random_item(rng, studio.reaper, studio.reaper.add_track(f"track {number}"), paths)
        item.values |= {"C_LOCK": 0.0, "C_LANEPLAYS": 1.0, "B_MUTE_ACTUAL": 0.0}
        item.takes[int(item.values.get("I_CURTAKE", 0))].name = f"item {number}"
        items.append(item)
    return items


def name_of(item: Item) -> str:
    return item.takes[int(item.values.get("I_CURTAKE", 0))].name


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_to_originals_their_stems_follow(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    studio = Studio(tmp_path)
    items = add_items(studio, rng, seed, ITEMS)
    studio.reaper.select(*items)
    studio.run("split")
    split = [item for item in items if item.values["B_MUTE_ACTUAL"]]
    assert len(split) >= 3, studio.told
    studio.reaper.select(*split)
    assert [text for text in studio.run("null_test") if "exact null" not in text] == []
    assert studio.run("realign") == ["Every stem lies where its original lies."]

    for item in split:
        EDITS[rng.choice(VALUES_ONLY)](rng, studio.reaper, item)
    studio.run("realign")
    silent = [text for text, is_error in studio.told if is_error]
    assert all(text.endswith("it lies beyond its source: left as it is") for text in silent)
    stemmed = studio.listen()
    studio.run("toggle")
    np.testing.assert_allclose(stemmed, studio.listen(), atol=1e-9)
    studio.run("toggle")
    split = [item for item in split if not any(text.startswith(f"{name_of(item)}: ") for text in silent)]
    studio.reaper.select(*split)
    assert [text for text in studio.run("null_test") if "exact null" not in text] == []

    studio.house.separator = FakeSeparator(sources=("drums", "vocals"), seed=9)
    studio.house.separator.name = "mdx"
    told = studio.run("resplit", fields("good", "mdx"))
    sections = [text for text in told if "plays a section or backwards" in text]
    assert f"{len(split) - len(sections)} of " in " ".join(told)
    np.testing.assert_allclose(studio.listen(), stemmed, atol=1e-9)
    assert [text for text in studio.run("null_test") if "exact null" not in text] == []

    studio.reaper.select()
    studio.run("toggle")
    heard = studio.listen()
    studio.run("remove", YES)
    assert studio.titles == ["Stembridge: remove stems"], "that all are meant, not that they were worked on"
    assert len(studio.reaper.current.items) == ITEMS
    np.testing.assert_array_equal(studio.listen(), heard)


REMIX = """
[preset]
name = "Far"
use = "a test"
[stems.drums]
gain_db = -3.0
[[stems.vocals.effects]]
kind = "low_cut"
cutoff_hz = 500.0
[[sends]]
name = "echo"
levels_db = { drums = -6.0 }
[[sends.effects]]
kind = "delay"
delay_ms = 20.0
"""


def is_rendered(studio: Studio, item: Item) -> bool:
    source, stem = active_take(item).source, active_take(stems_of(studio, item)[0]).source
    assert source is not None
    assert stem is not None
    return read_manifest(Path(stem.root.path).parent).source.path != source.root.path


@pytest.mark.parametrize("seed", range(6))
def test_a_remix_is_heard_as_if_the_original_played_its_file(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    studio = Studio(tmp_path)
    presets = studio.house.settings.config_file.parent / "presets"
    presets.mkdir(parents=True)
    (presets / "far.toml").write_text(REMIX, "utf-8")
    items = add_items(studio, rng, seed, ITEMS)
    studio.reaper.select(*items)
    studio.run("split")
    split = [item for item in items if item.values["B_MUTE_ACTUAL"]]
    # What REAPER has rendered first is no file of the original's.
    split = [item for item in split if not is_rendered(studio, item)]
    stemmed = studio.listen()
    studio.reaper.select(*split)
    studio.run("remix", fields("far"))
    remixed = studio.listen()
    assert np.abs(remixed - stemmed).max() > 1e-3
    mixes = {}
    for job in studio.house.jobs.values():
        if job.remix is not None and job.result is not None:
            mix = read_manifest(Path(job.result.folder)).mixture
            assert mix is not None
            mixes[read_manifest(Path(job.source)).source.path] = Path(job.result.folder) / mix.file
    studio.run("toggle")
    swapped = []
    for item in split:
        original, stem = active_take(item).source, stems_of(studio, item)[0]
        assert original is not None
        if len(stem.takes) < 2 and len(stems_of(studio, item)) < 6:
            continue
        if original.root.path in mixes:
            swapped.append((item, original))
            other = studio.reaper.add_item(studio.reaper.add_track("x"), mixes[original.root.path], name="x")
            active_take(item).source = active_take(other).source
            delete_item(other)
    assert swapped
    assert np.abs(remixed - studio.listen()).max() < 1e-9, studio.told
    for item, original in swapped:
        active_take(item).source = original
    studio.run("toggle")
    np.testing.assert_allclose(studio.listen(), remixed, atol=1e-12)
    studio.run("remix", fields("reset"))
    np.testing.assert_array_equal(studio.listen(), stemmed)
    assert [text for text in studio.run("null_test") if "exact null" not in text] == []


APART_S = 100.0
"""Copies lie so far from each other, each in a stretch of its own."""


def stems_of(studio: Studio, original: Item) -> list[Item]:
    """Return the stems that lie where an item lies, by their names."""
    name = f"{name_of(original)} - "
    items = [item for item in studio.reaper.current.items if name_of(item).startswith(name)]
    return [item for item in items if abs(item.position_s - original.position_s) < APART_S / 2]


def assert_heard_once(studio: Studio, originals: list[Item]) -> None:
    """No original is heard beside its stems, and no stem twice."""
    for original in originals:
        heard = [name_of(stem) for stem in stems_of(studio, original) if not is_muted(stem)]
        assert len(heard) == len(set(heard))
        assert is_muted(original) or not heard


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_copied_deleted_and_switched_nothing_is_heard_twice(tmp_path: Path, seed: int) -> None:
    rng = Random(seed)
    studio = Studio(tmp_path)
    items = add_items(studio, rng, seed, ITEMS)
    studio.reaper.select(*items)
    studio.run("split")
    items = [item for item in items if is_muted(item)]
    assert items, studio.told
    for step in range(1, 9):
        item = rng.choice(items)
        studio.reaper.select(*rng.sample(items, rng.randint(1, len(items))))
        match rng.choice(("split", "split", "toggle", "remove", "copy", "copy all", "delete")):
            case "copy":
                items.append(paste_item(studio, item, item.position_s % APART_S + step * APART_S))
            case "copy all":
                for stem in stems_of(studio, item):
                    paste_item(studio, stem, stem.position_s % APART_S + step * APART_S)
                items.append(paste_item(studio, item, item.position_s % APART_S + step * APART_S))
            case "delete":
                for stem in stems_of(studio, item):
                    delete_item(stem)
            case action:
                studio.run(action)
        assert_heard_once(studio, items)
    studio.reaper.select(*items)
    studio.run("split")
    assert all(text.endswith("or remove them first") for text, is_error in studio.told if is_error)
    assert_heard_once(studio, items)
    if any(not is_muted(item) for item in items):
        studio.run("toggle")
    assert all(is_muted(item) for item in items)
    stemmed = studio.listen()
    studio.run("toggle")
    assert not any(is_muted(item) for item in items)
    np.testing.assert_allclose(stemmed, studio.listen(), atol=1e-9)
