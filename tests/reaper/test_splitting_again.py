"""Another model onto the stems that are there: what is heard, and what of the user's stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import FakeSeparator
from reaper_fake import actions, section_of
from stem_items import active_take, cut_item, find_stem, is_muted
from stembridge.reaper.preferences import locate_preferences
from studio import NO, Studio, fields

SIX = ("drums", "bass", "other", "vocals", "guitar", "piano")


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def use(studio: Studio, model: str, sources: tuple[str, ...] = SIX) -> None:
    studio.house.separator = FakeSeparator(sources=sources, seed=7)
    studio.house.separator.name = model


def prefer(studio: Studio, line: str) -> None:
    path = locate_preferences(studio.house.settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{line}\n", "utf-8")


def test_each_stem_gets_a_take_and_keeps_what_is_the_users(studio: Studio) -> None:
    song = studio.add_song(D_POSITION=1.0, take_D_STARTOFFS=0.5, D_LENGTH=2.0, D_VOL=0.5)
    heard = studio.listen()
    studio.run("split")
    before = {item.guid: item.takes[0].guid for item in studio.reaper.current.items}
    track = studio.find_track("Vocals")
    track.name = "Lead"
    track.fx.append(("gain", 1.0))

    use(studio, "htdemucs_6s")
    told = studio.run("resplit", fields("good", "htdemucs_6s"))
    assert told == ["1 of 1 split: the stems sum to the original."]
    assert studio.track_names == [
        "song", "Drums", "Bass", "Other", "Lead", "Guitar", "Piano", studio.track_names[-1],
    ]  # fmt: skip
    assert studio.track_names[-1].startswith("Residual")
    assert len(studio.reaper.current.items) == 8
    for item in studio.reaper.current.items:
        if item.guid in before and item is not song:
            assert item.takes[0].guid == before[item.guid]
            assert len(item.takes) == 2
            source = active_take(item).source
            assert source is not None
            assert "htdemucs_6s" in source.path
            assert active_take(item).name == item.takes[0].name
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)
    assert (track.name, track.fx) == ("Lead", [("gain", 1.0)])
    track.fx.clear()
    assert studio.run("null_test") == ["song: exact null (6 stems + residual)"]
    assert studio.run("realign") == ["Every stem lies where its original lies."]
    label = [label for label, _ in studio.reaper.current.undo][-1]
    assert label == "Stembridge: split song with htdemucs_6s"
    studio.run("toggle")
    np.testing.assert_array_equal(studio.listen(), heard)
    assert studio.run("remove")[0].startswith("song: 7 stems removed. The files are still in ")
    np.testing.assert_array_equal(studio.listen(), heard)


def test_stems_the_model_does_not_know_are_muted_and_stay_out(studio: Studio) -> None:
    song = studio.add_song()
    heard = studio.listen()
    use(studio, "htdemucs_6s")
    prefer(studio, 'model = "htdemucs_6s"')
    studio.run("split")
    use(studio, "htdemucs", ("drums", "bass", "other", "vocals"))
    told = studio.run("resplit", fields("good", "htdemucs"))
    assert told == [
        "1 of 1 split: the stems sum to the original.",
        "song: guitar, piano: htdemucs has no such stem, so what is there was muted",
    ]
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)
    # There and back: what is not of this model stays silent.
    studio.run("toggle")
    studio.run("toggle")
    assert is_muted(find_stem(studio, "guitar"))
    assert not is_muted(find_stem(studio, "vocals"))
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)
    assert studio.run("null_test") == ["song: exact null (4 stems + residual)"]
    # Somebody looks what the guitar was: the original plays alone all the same.
    find_stem(studio, "guitar").values["B_MUTE_ACTUAL"] = 0.0
    studio.run("toggle")
    np.testing.assert_array_equal(studio.listen(), heard)
    studio.run("toggle")
    studio.reaper.select(find_stem(studio, "guitar"))
    use(studio, "htdemucs_6s")
    studio.run("resplit", fields("good", "htdemucs_6s"))
    assert not is_muted(find_stem(studio, "guitar"))
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)
    assert is_muted(song)


def test_what_the_user_did_to_a_stem_stays(studio: Studio) -> None:
    studio.add_song(seconds=60.0, D_POSITION=1.0, take_D_STARTOFFS=20.5, D_LENGTH=2.0)
    studio.run("split")
    vocals, drums, bass = (find_stem(studio, name) for name in ("vocals", "drums", "bass"))
    vocals.takes[0].values["D_VOL"] = 0.5
    vocals.takes[0].markers.append((1.0, "here", 0))
    offset = vocals.takes[0].values["D_STARTOFFS"]
    drums.values |= {"D_POSITION": 1.5, "D_LENGTH": 1.0}
    drums.takes[0].values["D_STARTOFFS"] += 0.5
    bass.takes[0].fx.append(("gain", 0.5))
    # A longer stretch is separated this time: files that begin earlier.
    prefer(studio, "handles_s = 5.0")
    use(studio, "mdx", ("drums", "bass", "other", "vocals"))
    told = studio.run("resplit", fields("good", "mdx"))
    assert told[1:] == ["song: bass: effects, envelopes and stretch markers stay on the take before"]
    assert active_take(vocals).values["D_VOL"] == 0.5
    now = active_take(vocals).values["D_STARTOFFS"]
    assert now == offset + 4.0
    assert active_take(vocals).markers == [(5.0, "here", 0)]
    assert (drums.values["D_POSITION"], drums.values["D_LENGTH"]) == (1.5, 1.0)
    assert active_take(drums).values["D_STARTOFFS"] == now + 0.5
    told = studio.run("null_test")
    assert "vocals: take volume -6.0 dB" in told[0]
    assert "Drums: trimmed to 1.000 s of 2.000 s" in told[0]


def test_two_stems_stay_two_stems(studio: Studio) -> None:
    studio.add_song()
    heard = studio.listen()
    studio.run("vocals_instrumental")
    assert studio.track_names == ["song", "Vocals", "Instrumental"]
    use(studio, "htdemucs_6s")
    studio.run("resplit", fields("good", "htdemucs_6s"))
    assert studio.track_names == ["song", "Vocals", "Instrumental"]
    assert [len(item.takes) for item in studio.reaper.current.items] == [1, 2, 2]
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)


def test_stems_that_are_switched_off_come_switched_off(studio: Studio) -> None:
    song = studio.add_song()
    heard = studio.listen()
    studio.run("split")
    studio.run("toggle")
    use(studio, "htdemucs_6s")
    studio.run("resplit", fields("good", "htdemucs_6s"))
    assert not is_muted(song)
    assert all(is_muted(item) for item in studio.reaper.current.items if item is not song)
    np.testing.assert_array_equal(studio.listen(), heard)


def test_the_same_once_more_is_nothing_new(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    before = studio.reaper.state()
    (told,) = studio.run("resplit", fields("good", "htdemucs"))
    assert told.startswith("song: its stems are htdemucs's in this quality already")
    assert studio.reaper.state() == before


def test_what_is_typed_wrong_is_asked_again(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    assert studio.run("resplit", fields("good", "nonesuch"), ("GetUserInputs", None)) == []
    assert "nonesuch" in studio.titles[1]
    assert studio.defaults[1] == ["good", "nonesuch"]


def test_a_model_that_is_not_here_is_asked_for(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    studio.house.models = {"htdemucs"}
    told = studio.run("resplit", fields("good", "htdemucs_6s"), NO)
    assert told == ["Nothing was split: the model htdemucs_6s is not on this machine."]


def test_sections_are_refused_by_name(studio: Studio) -> None:
    song = studio.add_song(seconds=20.0)
    take = song.takes[0]
    assert take.source is not None
    take.source = section_of(take.source, 9.5, 2.0, is_reversed=True)
    song.values |= {"D_LENGTH": 1.5}
    studio.run("split")
    (told,) = studio.run("resplit")
    assert told.startswith("song was skipped: it plays a section or backwards")


def test_a_rendered_item_is_split_from_its_rendering(studio: Studio) -> None:
    song = studio.add_song()
    song.takes[0].fx.append(("tanh", 2.0))
    heard = studio.listen()
    studio.run("split")
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-6)
    stemmed = studio.listen()
    use(studio, "htdemucs_6s")
    told = studio.run("resplit", fields("good", "htdemucs_6s"))
    assert told[0] == "1 of 1 split: the stems sum to what REAPER rendered."
    used = [operation[0] for order in studio.orders for operation in order.get("ops", [])]
    assert "add_take" in used
    assert "command" not in used
    np.testing.assert_allclose(studio.listen(), stemmed, atol=1e-8)
    # The rendering has full float precision, of which no set of files makes an exact sum.
    (verdict,) = studio.run("null_test")
    assert re.fullmatch(
        r"song: the stems sum to the original \(difference -1[4-9]\d\.\d dB, rounding; 6 stems \+ residual\)",
        verdict,
    )


def lose_rendering(studio: Studio) -> None:
    (rendering,) = [path for path in studio.folder.rglob("*-render*.wav") if "Stems" not in path.parts]
    rendering.unlink()


def test_where_its_rendering_is_gone_the_muted_original_is_rendered_aloud(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a REAPER in which a muted item renders to silence."""
    song = studio.add_song()
    song.takes[0].fx.append(("tanh", 2.0))
    studio.run("split")
    stemmed = studio.listen()
    lose_rendering(studio)
    render = actions.render_to_take
    mutes = []

    def render_as_heard(host: Any, project: Any, item: Any, take: Any) -> Any:
        mutes.append(is_muted(item))
        return render(host, project, item, take)

    monkeypatch.setattr(actions, "render_to_take", render_as_heard)
    use(studio, "htdemucs_6s")
    steps = len(studio.reaper.current.undo)
    told = studio.run("resplit", fields("good", "htdemucs_6s"))
    assert told[0] == "1 of 1 split: the stems sum to what REAPER rendered."
    assert mutes == [False]
    assert is_muted(song)
    assert len(song.takes) == 1
    assert len(studio.reaper.current.undo) == steps + 1
    np.testing.assert_allclose(studio.listen(), stemmed, atol=1e-8)


def test_an_original_that_reaper_does_not_render_is_left_and_muted_as_it_was(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = studio.add_song()
    song.takes[0].fx.append(("tanh", 2.0))
    studio.run("split")
    lose_rendering(studio)
    monkeypatch.setattr(actions, "render_to_take", lambda *_rest: None)
    (told,) = studio.run("resplit", fields("good", "htdemucs_6s"))
    assert told.startswith("song was skipped: REAPER could not render it: ")
    assert is_muted(studio.reaper.current.items[0])


@pytest.mark.parametrize(
    ("preferred", "present", "proposed"),
    [
        ("", "htdemucs", "htdemucs_6s"),
        ("htdemucs_6s", "htdemucs_6s", "htdemucs_ft"),
        ("htdemucs_ft", "htdemucs_ft", "htdemucs_6s"),
        ("mdx", "mdx", "htdemucs_ft"),
    ],
)
def test_the_model_whose_stems_are_there_is_not_proposed(
    studio: Studio, preferred: str, present: str, proposed: str
) -> None:
    studio.add_song()
    use(studio, present, SIX if present == "htdemucs_6s" else SIX[:4])
    prefer(studio, f'model = "{preferred}"')
    studio.run("split")
    studio.run("resplit", ("GetUserInputs", None))
    assert studio.defaults == [["good", proposed]]
    prefer(studio, 'model = "mdx_extra"')
    studio.run("resplit", ("GetUserInputs", None))
    assert studio.defaults == [["good", "mdx_extra"]]


def test_an_item_that_was_cut_gets_takes_on_every_piece(studio: Studio) -> None:
    song = studio.add_song()
    heard = studio.listen()
    studio.run("split")
    for item in list(studio.reaper.current.items):
        cut_item(studio, item, 1.0)
    studio.reaper.select(song)
    use(studio, "htdemucs_6s")
    studio.run("resplit", fields("good", "htdemucs_6s"))
    assert len(song.takes) == 1
    left = [item for item in studio.reaper.current.items if item.values.get("D_LENGTH") == 1.0]
    right_takes = [
        len(item.takes) for item in studio.reaper.current.items if item.values.get("D_LENGTH") == 3.0
    ]
    assert sorted(len(item.takes) for item in left) == [1, 1, 1, 2, 2, 2, 2, 2]
    assert right_takes == [1] * 6
    np.testing.assert_allclose(studio.listen(), heard, atol=1e-12)
