"""The oracle plays what REAPER's documentation says, checked against samples put in place by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

from reaper_fake import (
    ContractBreach,
    FakeReaper,
    Item,
    Media,
    Source,
    render_item,
    render_project,
    section_of,
)
from reaper_fake.playback import Samples
from reaper_fake.random_items import fill_shelf, random_edit, random_item

RATE = 100
RAMP = np.arange(1.0, 21.0)
"""Twenty frames at 100 Hz: frame k holds k + 1, so that a value tells where it is from."""


@pytest.fixture
def reaper(tmp_path: Path) -> FakeReaper:
    """Return a REAPER that knows a mono ramp, a stereo file and one of four channels."""
    host = FakeReaper(tmp_path)
    host.shelf.virtual["/ramp.wav"] = Media(RAMP[None], RATE)
    host.shelf.virtual["/stereo.wav"] = Media(np.stack([RAMP, -2 * RAMP]), RATE)
    host.shelf.virtual["/quad.wav"] = Media(np.outer([1.0, 10.0, 100.0, 1000.0], RAMP), RATE)
    host.add_track("Mix")
    return host


def _item(reaper: FakeReaper, source: str | Source = "/ramp.wav", **values: float) -> Item:
    return reaper.add_item(reaper.current.tracks[0], source, **{"B_LOOPSRC": 0.0, **values})  # type: ignore[arg-type]


def _file(reaper: FakeReaper, path: str = "/ramp.wav") -> Source:
    source = reaper.shelf.source(path)
    assert source is not None
    return source


def _left(reaper: FakeReaper, item: Item, rate: int = RATE) -> list[float]:
    heard = render_item(item, reaper.shelf.samples, rate)
    return [float(value) for value in heard[0]]


def test_plain_item_is_the_file(reaper: FakeReaper) -> None:
    """A mono file is heard on both sides, sample for sample."""
    heard = render_item(_item(reaper), reaper.shelf.samples, RATE)
    assert np.array_equal(heard, np.stack([RAMP, RAMP]))


@pytest.mark.parametrize(
    ("offset", "length", "is_looped", "expected"),
    [
        (0.05, 0.04, 0, [6, 7, 8, 9]),
        (-0.02, 0.05, 0, [0, 0, 1, 2, 3]),
        (0.18, 0.04, 0, [19, 20, 0, 0]),
        (0.5, 0.02, 0, [0, 0]),
        (0.18, 0.04, 1, [19, 20, 1, 2]),
        (-0.02, 0.04, 1, [19, 20, 1, 2]),
        (0.43, 0.02, 1, [4, 5]),
    ],
)
def test_offset_and_loop(
    reaper: FakeReaper, offset: float, length: float, is_looped: int, expected: list[float]
) -> None:
    """Before and behind the file there is silence, or the next turn."""
    item = _item(reaper, take_D_STARTOFFS=offset, D_LENGTH=length, B_LOOPSRC=is_looped)
    assert _left(reaper, item) == expected


@pytest.mark.parametrize(
    ("offset", "length", "is_reversed", "start", "is_looped", "expected"),
    [
        (0.05, 0.03, False, 0.0, 0, [6, 7, 8, 0, 0, 0, 0]),
        (0.05, 0.03, False, 0.01, 1, [7, 8, 6, 7, 8, 6, 7]),
        (0.05, 0.03, True, 0.0, 0, [8, 7, 6, 0, 0, 0, 0]),
        (0.05, 0.03, True, 0.01, 1, [7, 6, 8, 7, 6, 8, 7]),
        (0.0, 0.0, True, 0.0, 0, [20, 19, 18, 17, 16, 15, 14]),
    ],
)
def test_section_and_reverse(
    reaper: FakeReaper,
    offset: float,
    length: float,
    is_reversed: bool,
    start: float,
    is_looped: int,
    expected: list[float],
) -> None:
    """A section turns over at its own length; reversed it begins with its last frame."""
    source = section_of(_file(reaper), offset, length, is_reversed=is_reversed)
    item = _item(reaper, source, take_D_STARTOFFS=start, D_LENGTH=0.07, B_LOOPSRC=is_looped)
    assert _left(reaper, item) == expected


def test_play_rate_and_other_rates(reaper: FakeReaper) -> None:
    """Twice as fast is every other frame; between frames lies the line."""
    assert _left(reaper, _item(reaper, take_D_PLAYRATE=2.0, D_LENGTH=0.04)) == [1, 3, 5, 7]
    assert _left(reaper, _item(reaper, take_D_PLAYRATE=0.5, D_LENGTH=0.04)) == [1, 1.5, 2, 2.5]
    assert _left(reaper, _item(reaper, D_LENGTH=0.03), 2 * RATE) == [1, 1.5, 2, 2.5, 3, 3.5]
    backwards = section_of(_file(reaper), is_reversed=True)
    assert _left(reaper, _item(reaper, backwards, take_D_PLAYRATE=2.0, D_LENGTH=0.03)) == [20, 18, 16]


@pytest.mark.parametrize(
    ("path", "mode", "expected"),
    [
        ("/stereo.wav", 0, [1, -2]),
        ("/stereo.wav", 1, [-2, 1]),
        ("/stereo.wav", 2, [-0.5, -0.5]),
        ("/stereo.wav", 3, [1, 1]),
        ("/stereo.wav", 4, [-2, -2]),
        ("/ramp.wav", 4, [1, 1]),
        ("/quad.wav", 0, [1, 10, 100, 1000]),
        ("/quad.wav", 6, [1000, 1000]),
        ("/quad.wav", 69, [100, 1000]),
        ("/quad.wav", 70, [1000, 0]),
    ],
)
def test_channel_modes(reaper: FakeReaper, path: str, mode: int, expected: list[float]) -> None:
    """Each mode plays the channels of its name."""
    item = _item(reaper, path, take_I_CHANMODE=mode)
    heard = render_item(item, reaper.shelf.samples, RATE)
    assert np.array_equal(heard, np.outer(expected, RAMP))


def test_volume_pan_fades_and_mute(reaper: FakeReaper) -> None:
    """Take volume with its polarity, pan, item volume and both fades multiply; a mute is silence."""
    item = _item(reaper, "/stereo.wav", take_D_VOL=-0.5, take_D_PAN=-1.0, D_VOL=2.0)
    heard = render_item(item, reaper.shelf.samples, RATE)
    assert np.array_equal(heard, np.stack([-RAMP, 0 * RAMP]))
    faded = _item(reaper, D_FADEINLEN=0.02, D_FADEINLEN_AUTO=0.04, D_FADEOUTLEN=0.1)
    gains = np.array(_left(reaper, faded)) / RAMP
    assert gains[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert gains[9:] == pytest.approx([1, *np.arange(10, 0, -1) / 10])
    item.values["B_MUTE_ACTUAL"] = 1.0
    assert not render_item(item, reaper.shelf.samples, RATE).any()
    item.values.update(B_MUTE_ACTUAL=0.0, C_LANEPLAYS=0.0)
    assert not render_item(item, reaper.shelf.samples, RATE).any()


@pytest.mark.parametrize(
    "key",
    ["C_FADEINSHAPE", "C_FADEOUTSHAPE", "D_FADEINDIR", "D_FADEOUTDIR", "D_FADEINLEN", "D_FADEOUTLEN_AUTO"],
)
def test_every_fade_value_is_heard(reaper: FakeReaper, key: str) -> None:
    """A planner that forgets one of them is caught."""
    item, other = (_item(reaper, D_FADEINLEN=0.1, D_FADEOUTLEN=0.1) for _ in range(2))
    other.values[key] = 0.15 if "LEN" in key else 1.0
    assert _left(reaper, item) != _left(reaper, other)
    other.values[key] = item.values.get(key, 0.0)
    assert _left(reaper, item) == _left(reaper, other)


def test_window_of_an_item_is_part_of_it(reaper: FakeReaper) -> None:
    """Any stretch of project time, also across the edges."""
    item = _item(reaper, D_POSITION=0.5)
    heard = render_item(item, reaper.shelf.samples, RATE, start_s=Fraction(47, 100), frames=6)
    assert heard[0].tolist() == [0, 0, 0, 1, 2, 3]
    heard = render_item(item, reaper.shelf.samples, RATE, start_s=Fraction(69, 100), frames=3)
    assert heard[0].tolist() == [20, 0, 0]


def test_folder_sums_its_children(reaper: FakeReaper) -> None:
    """Children go through their parent's effects, fader and mute; a muted item mutes no track."""
    parent = reaper.current.tracks[0]
    parent.values.update(I_FOLDERDEPTH=1.0, D_VOL=0.5)
    parent.fx.append(("tanh", 0.01))
    for number in range(2):
        child = reaper.add_track(f"child {number}", I_FOLDERDEPTH=-1.0 * number)
        reaper.add_item(child, "/ramp.wav", B_LOOPSRC=0.0, D_VOL=1.0 + number)
    _item(reaper, B_MUTE=1.0)
    outside = reaper.add_track("outside", B_PHASE=1)
    reaper.add_item(outside, "/ramp.wav", B_LOOPSRC=0.0)
    heard = render_project(reaper.current, reaper.shelf.samples, RATE)
    assert heard[0] == pytest.approx(0.5 * np.tanh(0.03 * RAMP) - RAMP)
    parent.values["B_MUTE"] = 1.0
    assert np.array_equal(render_project(reaper.current, reaper.shelf.samples, RATE)[0], -RAMP)
    outside.values["B_MUTE"] = 1.0
    assert not render_project(reaper.current, reaper.shelf.samples, RATE).any()


@pytest.mark.parametrize(
    ("offset", "flags", "late"), [(2 / RATE, 0, 2), (2.0, 2, 2), (-1.0, 2, -1), (2.0, 3, 0), (2 / RATE, 1, 0)]
)
def test_a_track_plays_its_own_items_late(reaper: FakeReaper, offset: float, flags: int, late: int) -> None:
    """Seconds, or frames of the project; switched off, none. Children do not follow."""
    reaper.current.rate = RATE
    parent = reaper.current.tracks[0]
    parent.values.update(I_FOLDERDEPTH=1.0, D_PLAY_OFFSET=offset, I_PLAY_OFFSET_FLAG=float(flags))
    _item(reaper, D_POSITION=3 / RATE)
    child = reaper.add_track("child", I_FOLDERDEPTH=-1.0)
    reaper.add_item(child, "/ramp.wav", B_LOOPSRC=0.0, D_POSITION=20 / RATE)
    heard = render_project(reaper.current, reaper.shelf.samples, RATE)[0]
    expected = np.zeros(20 + len(RAMP))
    expected[3 + late : 3 + late + len(RAMP)] += RAMP
    expected[20:] += RAMP
    assert heard == pytest.approx(expected)


def test_solo_of_a_child_is_heard_through_its_parent(reaper: FakeReaper) -> None:
    """Solo silences what is not under it and leaves the way to the master open."""
    parent = reaper.current.tracks[0]
    parent.values.update(I_FOLDERDEPTH=1.0, D_VOL=0.5)
    _item(reaper)
    child = reaper.add_track("child", I_FOLDERDEPTH=-1, I_SOLO=1)
    reaper.add_item(child, "/ramp.wav", B_LOOPSRC=0.0, D_VOL=3.0)
    heard = render_project(reaper.current, reaper.shelf.samples, RATE)
    assert np.array_equal(heard[0], 1.5 * RAMP)


def _split_media(rng: np.random.Generator, media: Media, count: int) -> list[Samples]:
    """Return `count` files whose samples add up to those of `media` without any rounding."""
    parts = [np.round(rng.uniform(-1, 1, media.samples.shape) * 2**20) / 2**23 for _ in range(count - 1)]
    return [*parts, media.samples - np.sum(parts, axis=0)]


def test_parts_of_a_file_add_up(tmp_path: Path) -> None:
    """500 random items, some edited: the same item over parts of its file sums to the item, at two rates."""
    rng = Random(11)
    noise = np.random.default_rng(11)
    reaper = FakeReaper(tmp_path)
    paths = fill_shelf(rng, reaper)
    stems = {path: _split_media(noise, reaper.shelf.virtual[path], 3) for path in paths}
    track = reaper.add_track("Mix")
    heard_count = 0
    for number in range(500):
        item = random_item(rng, reaper, track, paths)
        if number % 3 == 0:
            random_edit(rng, reaper, item)
        take = item.active_take
        assert take is not None and take.source is not None
        for rate in (take.source.root.rate, 32000):
            whole = render_item(item, reaper.shelf.samples, rate)
            parts = [render_item(item, lambda path, k=k: stems[path][k], rate) for k in range(3)]  # type: ignore[misc]
            peak = max(np.abs(part).max(initial=0.0) for part in [whole, *parts])
            assert np.abs(np.sum(parts, axis=0) - whole).max(initial=0.0) <= 1e-12 * max(peak, 1e-3)
            heard_count += bool(whole.any())
    assert heard_count > 500


def test_shorter_file_with_shifted_offset_plays_the_same(reaper: FakeReaper) -> None:
    """A file that lacks whole seconds in front plays the same with as much less offset, to the bit."""
    rng = Random(5)
    noise = np.random.default_rng(5).uniform(-1, 1, (2, 4 * 441))
    reaper.shelf.virtual["/long.wav"] = Media(noise, 441)
    reaper.shelf.virtual["/late.wav"] = Media(noise[:, 2 * 441 :], 441)
    for _ in range(100):
        start, play_rate = rng.uniform(2.0, 3.0), rng.choice((1.0, rng.uniform(0.5, 2.0)))
        values = {"D_LENGTH": rng.uniform(0.01, 0.4), "take_D_PLAYRATE": play_rate}
        long = _item(reaper, "/long.wav", take_D_STARTOFFS=start, **values)
        late = _item(reaper, "/late.wav", take_D_STARTOFFS=start - 2.0, **values)
        load = reaper.shelf.samples
        assert np.array_equal(render_item(long, load, 441), render_item(late, load, 441))


def test_bake_holds_the_take_and_not_the_item(reaper: FakeReaper) -> None:
    """Action 41999: effects, take volume, channel mode are in the file; fades, item volume, mute are not."""
    item = _item(
        reaper,
        "/stereo.wav",
        take_D_VOL=0.25,
        take_I_CHANMODE=4,
        D_VOL=0.1,
        D_FADEINLEN=0.1,
        B_MUTE=1,
        D_POSITION=3,
    )
    item.takes[0].fx.append(("gain", 2.0))
    reaper.select(item)
    reaper.current.rate = RATE
    reaper.run_code(
        "lua",
        "reaper.Undo_BeginBlock2(0) reaper.Main_OnCommandEx(41999, 0, 0) "
        "reaper.Undo_EndBlock2(0, 'bake', -1)",
    )
    baked = item.active_take
    assert baked is item.takes[1] and baked.source is not None
    samples, rate = soundfile.read(baked.source.path, always_2d=True)
    assert rate == RATE
    assert np.array_equal(samples.T, np.stack([-RAMP, -RAMP]))
    assert (baked.values["D_VOL"], baked.values.get("I_CHANMODE", 0.0), baked.fx) == (1.0, 0.0, [])


def test_reverse_action_turns_what_is_heard(reaper: FakeReaper) -> None:
    """Action 41051 plays the same stretch backwards, and the second time forwards again."""
    item = _item(reaper, take_D_STARTOFFS=0.05, D_LENGTH=0.04)
    reaper.select(item)
    code = "reaper.Undo_BeginBlock2(0) reaper.Main_OnCommandEx(41051, 0, 0) reaper.Undo_EndBlock2(0, 'r', -1)"
    reaper.run_code("lua", code)
    assert _left(reaper, item) == [9, 8, 7, 6]
    reaper.run_code("lua", code)
    assert _left(reaper, item) == [6, 7, 8, 9]


def test_render_writes_the_mix(reaper: FakeReaper, tmp_path: Path) -> None:
    """Action 41824 writes the file that the render settings name, at their rate and bounds."""
    _item(reaper, D_POSITION=0.1, D_VOL=1 / 64)
    reaper.run_code(
        "python",
        f"RPR_GetSetProjectInfo_String(0, 'RENDER_FILE', {str(tmp_path)!r}, True)\n"
        "RPR_GetSetProjectInfo_String(0, 'RENDER_PATTERN', 'check', True)\n"
        "for key, value in (('RENDER_SRATE', 100), ('RENDER_BOUNDSFLAG', 1), ('RENDER_CHANNELS', 2)):\n"
        "  RPR_GetSetProjectInfo(0, key, value, True)\n"
        "RPR_Main_OnCommandEx(41824, 0, 0)\n",
    )
    samples, rate = soundfile.read(tmp_path / "check.wav")
    assert rate == 100
    assert np.array_equal(samples[:, 0], np.concatenate([np.zeros(10), RAMP / 64]))
    with pytest.raises(ContractBreach, match="not modelled"):
        reaper.run_code(
            "python",
            "RPR_GetSetProjectInfo(0, 'RENDER_BOUNDSFLAG', 3, True)\nRPR_Main_OnCommandEx(41824, 0, 0)",
        )


def test_source_says_what_its_file_is(reaper: FakeReaper, tmp_path: Path) -> None:
    """Kind, rate, channels and length come from the header; another decoder can be put in its place."""
    for suffix, kind in (
        ("wav", "WAVE"),
        ("aiff", "AIFF"),
        ("flac", "FLAC"),
        ("mp3", "MP3"),
        ("ogg", "VORBIS"),
    ):
        path = str(tmp_path / f"x.{suffix}")
        soundfile.write(path, np.zeros((4410, 2)), 44100)
        source = _file(reaper, path)
        assert (source.kind, source.rate, source.channels, source.frames) == (kind, 44100, 2, 4410)
        reaper.shelf.virtual[path] = Media(np.zeros((2, 4415)), 44100, kind)
        assert _file(reaper, path).frames == 4415
    assert reaper.shelf.source(str(tmp_path / "none.wav")) is None
