"""A batch of remixes: what a file may say, what is found again, and which ids tell remixes apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fakes import FakeSeparator
from signals import make_noise, to_ints, write_pcm
from splits import split_to_end
from stembridge import manifest
from stembridge.errors import ModelError, RequestError, SourceError
from stembridge.manifest import read_manifest
from stembridge.mixdown.batch import (
    Output,
    Variant,
    derive_job_id,
    describe_preset,
    describe_set,
    describe_split,
    list_places,
    list_stems,
    make_request,
)
from stembridge.mixdown.batch_file import read_batch
from stembridge.mixdown.finding import Samples, find_remix, find_set, hash_samples
from stembridge.mixdown.render import render_remix
from stembridge.presets import read_preset
from stembridge.settings import load_settings
from stembridge.stages import run_to_end
from stembridge.types import Precision, Region, RemixRequest, ResidualPolicy, SplitRequest

RATE = 44_100
FOUR = ("drums", "bass", "other", "vocals", "residual")


def write_song(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pcm(path, to_ints(make_noise(3_000, 2, seed=seed), 24), RATE, 24)


def split_song(song: Path, out: Path, *, job_id: str = "job", **fields: Any) -> Path:
    """Split with a separator of four sources that goes by the name of the preview."""
    request = SplitRequest(str(song), str(out), "preview", **fields)
    return Path(split_to_end(request, FakeSeparator(step_frames=1_000), job_id=job_id)[0].folder)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_song(tmp_path / "song.wav")


@pytest.fixture
def request_(song: Path, tmp_path: Path) -> SplitRequest:
    return SplitRequest(str(song), str(tmp_path / "out"), "preview")


# --- what is there already ------------------------------------------------------------------------------


def find(request: SplitRequest, out: Path, source: Path | None = None) -> Path | None:
    wanted = set(list_stems(request))
    samples = Samples(source or Path(request.source))
    return find_set([out], request, samples, lambda names: wanted <= set(names))


def test_a_set_of_the_same_samples_is_found_whatever_the_file_is_called(
    song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    assert find(request_, tmp_path / "nowhere") is None
    folder = split_song(song, tmp_path / "out")
    assert find(request_, tmp_path / "out") == folder
    twin = write_song(tmp_path / "renamed.wav")
    assert find(request_, tmp_path / "out", twin) == folder
    other = write_song(tmp_path / "elsewhere" / "song.wav", seed=1)
    assert find(request_, tmp_path / "out", other) is None


@pytest.mark.parametrize(
    "fields",
    [{"model": "htdemucs"}, {"overlap": 0.5}, {"shifts": 1}],
)
def test_a_set_that_was_made_in_another_way_is_not_taken(
    fields: dict[str, Any], song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    split_song(song, tmp_path / "out")
    assert find(replace(request_, **fields), tmp_path / "out") is None


def test_the_seed_counts_where_it_is_used(song: Path, request_: SplitRequest, tmp_path: Path) -> None:
    folder = split_song(song, tmp_path / "plain")
    assert find(replace(request_, seed=5), tmp_path / "plain") == folder
    folder = split_song(song, tmp_path / "shifted", shifts=2)
    shifted = replace(request_, shifts=2)
    assert find(shifted, tmp_path / "shifted") == folder
    assert find(replace(shifted, seed=5), tmp_path / "shifted") is None


def test_a_set_of_half_precision_does_for_whoever_asks_for_no_more(
    song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    half = replace(request_, precision=Precision.HALF)
    folder = split_song(song, tmp_path / "half", precision=Precision.HALF)
    assert find(half, tmp_path / "half") == folder and find(request_, tmp_path / "half") is None
    folder = split_song(song, tmp_path / "full")
    assert find(half, tmp_path / "full") == find(request_, tmp_path / "full") == folder


def test_parts_folded_residuals_and_mono_stems_are_not_the_set_that_was_asked_for(
    song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    split_song(song, out, job_id="part", region=Region(0, 2_000))
    split_song(song, out, job_id="mono", mono=("bass",))
    split_song(song, out, job_id="hf", residual=ResidualPolicy.HF_ENVELOPE)
    split_song(song, out, job_id="few", stems=("drums",))
    assert find(request_, out) is None
    # The same samples alone would be separated without what stood around them.
    start = write_pcm(tmp_path / "start.wav", to_ints(make_noise(3_000, 2), 24)[:, :2_000], RATE, 24)
    (part,) = [path.parent for path in out.glob("*/stems.json") if read_manifest(path.parent).job == "part"]
    assert read_manifest(part).source.sha256_pcm == hash_samples(start)
    assert find(request_, out, start) is None


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_newest_set_is_taken_and_a_damaged_one_is_passed_over(
    song: Path, request_: SplitRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(manifest, "timestamp", lambda seconds: "2026-01-01T00:00:00+00:00")
    older = split_song(song, out, job_id="older")
    monkeypatch.setattr(manifest, "timestamp", lambda seconds: "2026-01-02T00:00:00+00:00")
    newer = split_song(song, out, job_id="newer")
    assert find(request_, out) == newer
    flip_byte(newer / "song - drums.wav")
    assert find(request_, out) == older
    flip_byte(newer / "song - drums.wav")
    assert find(request_, out) == newer
    (newer / "song - bass.wav").unlink()
    assert find(request_, out) == older
    document = older / "stems.json"
    document.write_text(document.read_text().replace('"deterministic": true', '"deterministic": false'))
    assert find(request_, out) is None
    document.write_text("{")
    assert find(request_, out) is None


def test_samples_are_read_only_where_a_set_might_fit(
    song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    song.write_bytes(b"no audio any more")
    assert find(request_, tmp_path / "out") is None
    split_song(write_song(tmp_path / "other.wav"), tmp_path / "out")
    with pytest.raises(SourceError, match=r"song\.wav"):
        find(request_, tmp_path / "out")


def test_the_hash_of_a_file_is_the_one_in_the_manifest_of_its_split(song: Path, tmp_path: Path) -> None:
    folder = split_song(song, tmp_path / "out")
    assert hash_samples(song) == read_manifest(folder).source.sha256_pcm


def test_a_remix_is_no_set_and_a_set_no_remix(
    home: Path, song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = split_song(song, tmp_path / "sets")
    preset = tmp_path / "neutral.toml"
    preset.write_text('[preset]\nname = "Neutral"\nuse = "a test"\n[stems.bass]\ngain_db = 0\n')
    # Its samples are the original's, and so are its stems; and yet it is a remix.
    asked = RemixRequest(str(folder), str(out), str(preset), stems_out=True)
    made = run_to_end(render_remix(asked, "remix", load_settings(home=home)))
    assert read_manifest(Path(made.folder)).source.sha256_pcm == read_manifest(folder).source.sha256_pcm
    assert find(request_, tmp_path / "sets") == folder and find(request_, out) is None
    assert find_remix(out, "remix") == Path(made.folder)
    assert find_remix(out, "another") is None and find_remix(tmp_path / "sets", "job") is None
    mixture = Path(made.folder) / "song - neutral.wav"
    for file in (mixture, Path(made.folder) / "song - bass.wav"):
        flip_byte(file)
        assert find_remix(out, "remix") is None
        flip_byte(file)
    assert find_remix(out, "remix") == Path(made.folder)
    # A folder that goes by the name of another job is still not that job's.
    renamed = Path(made.folder).rename(out / f"song__neutral__{manifest.job8('another')}")
    assert find_remix(out, "another") is None
    renamed.rename(made.folder)
    mixture.unlink()
    assert find_remix(out, "remix") is None


def test_a_batch_takes_sets_and_leaves_remixes(home: Path, song: Path, tmp_path: Path) -> None:
    folder = split_song(song, tmp_path / "all")
    asked = RemixRequest(str(folder), str(tmp_path / "all"), "karaoke", stems_out=True)
    run_to_end(render_remix(asked, "remix", load_settings(home=home)))
    text = 'inputs = ["all/*"]\npresets = ["karaoke"]\noutputs = [{folder = "out"}]\n'
    assert read_batch(write_batch(tmp_path, text), "preview").inputs == (folder,)


def test_what_a_split_will_give_is_known_before_it(request_: SplitRequest) -> None:
    assert list_stems(request_) == FOUR
    assert list_stems(replace(request_, stems=("vocals", "drums"))) == ("drums", "vocals", "residual")
    assert list_stems(replace(request_, two_stems="vocals")) == ("vocals", "no_vocals")
    with pytest.raises(ModelError, match="kazoo"):
        list_stems(replace(request_, stems=("kazoo",)))


# --- ids ------------------------------------------------------------------------------------------------


def test_an_id_follows_from_samples_preset_and_options_and_from_nothing_else(
    song: Path, request_: SplitRequest, tmp_path: Path
) -> None:
    output = Output(tmp_path / "a")
    first = make_request(tmp_path / "set", Variant("karaoke"), output)
    content = describe_split(request_, "0" * 64)

    def identify(content: str = content, text: str = "mute = true", **fields: Any) -> str:
        return derive_job_id(content, text, replace(first, **fields))

    same = {
        identify(),
        identify(source="/elsewhere/set", out="/elsewhere/out"),
        identify(content=describe_split(replace(request_, out="/b", source="/x/song.wav"), "0" * 64)),
    }
    assert len(same) == 1
    others = {
        identify(content=describe_split(request_, "1" * 64)),
        identify(content=describe_split(replace(request_, model="htdemucs"), "0" * 64)),
        identify(content=describe_split(replace(request_, source="/x/another.wav"), "0" * 64)),
        identify(text="mute = false"),
        identify(preset="acapella"),
        identify(stems_out=True),
        identify(format="wav24"),
        identify(mp3=True),
        identify(report=True),
        identify(speed=0.8),
        identify(pitch=-2.0),
        identify(file_names="{name} - {stem} - {job8}"),
        identify(sessions=("rpp",)),
    }
    assert len(others) == 13 and not others & same


def test_the_id_of_a_remix_with_the_usual_names_and_no_session_stays_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stembridge.mixdown.batch.__version__", "0.5.0")
    request = RemixRequest("/sets/a", "/out", "karaoke", stems_out=True, speed=0.8)
    assert derive_job_id("content", "preset", request) == "remix-378de6944a424175409d700f06e7099b"


def test_what_files_of_a_split_are_called_makes_it_no_other_set(request_: SplitRequest) -> None:
    named = replace(request_, file_names="{stem} {job8}")
    assert describe_split(named, "0" * 64) == describe_split(request_, "0" * 64)


def test_half_precision_is_another_set_and_the_usual_one_is_called_as_ever(request_: SplitRequest) -> None:
    usual = describe_split(request_, "0" * 64)
    assert describe_split(replace(request_, precision=Precision.HALF), "0" * 64) != usual
    assert "precision" not in usual and "listen_from" not in usual


def test_another_version_of_stembridge_renders_again(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(tmp_path / "set", Variant("karaoke"), Output(tmp_path))
    before = derive_job_id("content", "preset", request)
    assert derive_job_id("content", "preset", request) == before
    monkeypatch.setattr("stembridge.mixdown.batch.__version__", "0.0.0")
    assert derive_job_id("content", "preset", request) != before


def test_a_preset_is_its_text_and_the_files_that_it_names(home: Path, tmp_path: Path) -> None:
    settings = load_settings(home=home)
    response = write_song(tmp_path / "room.wav")
    path = tmp_path / "room.toml"
    path.write_text(
        '[preset]\nname = "Room"\nuse = "a test"\n[[sends]]\nname = "room"\nlevels_db = {drums = 0}\n'
        f'[[sends.effects]]\nkind = "convolution"\nimpulse_response = "{response}"\n'
    )
    before = describe_preset(read_preset(path), settings)
    assert describe_preset(read_preset(path), settings) == before
    assert describe_preset(read_preset(path, ["sends.room.gain_db=-1"]), settings) != before
    preset = read_preset(path)
    write_song(response, seed=1)
    assert describe_preset(preset, settings) != before
    response.unlink()
    assert describe_preset(preset, settings) != before


def test_an_updated_plugin_makes_another_remix(home: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "plugins" / "Hall.vst3" / "Contents" / "hall.so"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(b"version 1")
    settings = replace(load_settings(home=home), plugin_dirs=(tmp_path / "plugins",))
    path = tmp_path / "hall.toml"
    path.write_text(
        '[preset]\nname = "Hall"\nuse = "a test"\n[[stems.drums.effects]]\n'
        'kind = "plugin"\npath = "Hall.vst3"\n'
    )
    preset = read_preset(path)
    before = describe_preset(preset, settings)
    assert describe_preset(preset, settings) == before
    bundle.write_bytes(b"version 1.1")
    after = describe_preset(preset, settings)
    assert after != before
    bundle.unlink()
    assert describe_preset(preset, settings) not in (before, after)


def test_sets_are_told_apart_by_the_samples_of_their_stems(song: Path, tmp_path: Path) -> None:
    one = split_song(song, tmp_path / "one", job_id="one")
    two = split_song(song, tmp_path / "two", job_id="two")
    few = split_song(song, tmp_path / "few", stems=("drums",))
    assert describe_set(read_manifest(one)) == describe_set(read_manifest(two))
    assert describe_set(read_manifest(one)) != describe_set(read_manifest(few))
    twin = split_song(write_song(tmp_path / "twin.wav"), tmp_path / "twins")
    assert describe_set(read_manifest(one)) != describe_set(read_manifest(twin))


# --- remix.toml -----------------------------------------------------------------------------------------


def write_batch(folder: Path, text: str) -> Path:
    path = folder / "remix.toml"
    path.write_text(dedent(text))
    return path


def test_inputs_presets_and_outputs_are_read_with_their_paths(tmp_path: Path) -> None:
    for name in ("b.wav", "a.wav", ".hidden.wav"):
        write_song(tmp_path / "songs" / name)
    song = write_song(tmp_path / "one.wav")
    folder = split_song(song, tmp_path / "stems")
    (tmp_path / "stems" / "no set").mkdir()
    batch = read_batch(
        write_batch(
            tmp_path,
            """
            inputs = ["one.wav", "songs/*.wav", "stems/*", "one.wav", "not yet there.wav"]
            presets = ["karaoke", {preset = "mine/loud.toml", set = ["vocals.gain_db=4"]}]

            [[outputs]]
            folder = "singer"
            mp3 = true
            speed = 0.9
            pitch = -2

            [[outputs]]
            folder = "mix"
            format = "wav24"
            stems_out = true
            report = true
            match = "lufs"
            ceiling_dbtp = -1.0
            tail = "extend"
            file_names = "{name} - {stem} - {job8}"
            sessions = ["rpp", "dawproject", "rpp"]

            [split]
            model = "preview"
            shifts = 1
            precision = "half"
            """,
        ),
        "htdemucs",
    )
    assert [path.relative_to(tmp_path).as_posix() for path in batch.inputs] == [
        "one.wav",
        "songs/a.wav",
        "songs/b.wav",
        f"stems/{folder.name}",
        "not yet there.wav",
    ]
    assert batch.variants == (
        Variant("karaoke"),
        Variant(str(tmp_path / "mine" / "loud.toml"), ("vocals.gain_db=4",)),
    )
    singer, mix = batch.outputs
    assert singer == Output(tmp_path / "singer", mp3=True, speed=0.9, pitch=-2)
    assert singer.changes == ()
    assert mix.changes == ("master.match=lufs", "master.ceiling_dbtp=-1.0", "tail=extend")
    made = make_request(folder, batch.variants[1], mix)
    assert made.changes == ("vocals.gain_db=4", *mix.changes)
    assert (made.stems_out, made.report, made.format, made.out) == (
        True,
        True,
        "wav24",
        str(tmp_path / "mix"),
    )
    assert (made.file_names, made.sessions) == ("{name} - {stem} - {job8}", ("rpp", "dawproject"))
    assert (batch.split.model, batch.split.shifts, batch.is_model_named) == ("preview", 1, True)
    assert batch.split.precision is Precision.HALF
    places = ("singer", "mix", "stems", "remixes")
    assert batch.sets == tuple(tmp_path / name for name in places)
    assert batch.split.out == str(tmp_path / "singer")


def test_a_folder_is_one_path_however_it_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = """
        inputs = ["~/*.wav", "~/songs/a.wav"]
        presets = ["karaoke"]
        stems_dir = "~/sets"
        outputs = [{folder = "real/../real"}, {folder = "link"}, {folder = "~/zz"}]
        split = {model_dir = "~/models"}
    """
    write_song(tmp_path / "home" / "b.wav")
    batch = read_batch(write_batch(tmp_path, text), "preview")
    folders = [output.folder for output in batch.outputs]
    assert folders == [tmp_path / "real", tmp_path / "real", tmp_path / "home" / "zz"]
    assert batch.inputs == (tmp_path / "home" / "b.wav", tmp_path / "home" / "songs" / "a.wav")
    assert batch.sets == (tmp_path / "home" / "sets",)
    assert batch.split.model_dir == str(tmp_path / "home" / "models")
    with pytest.raises(RequestError, match=r"outputs\.0\.folder = '~nobody-of-that-name/x'"):
        read_batch(write_batch(tmp_path, text.replace("real/../real", "~nobody-of-that-name/x")), "preview")


def test_a_quality_is_its_model_and_what_stands_beside_it_wins(tmp_path: Path) -> None:
    text = """
        inputs = ["a.wav"]
        presets = ["karaoke"]
        stems_dir = "sets"
        outputs = [{folder = "out"}]
        split = {quality = "best", overlap = 0.5}
    """
    batch = read_batch(write_batch(tmp_path, text), "preview")
    assert (batch.split.model, batch.split.shifts, batch.split.overlap) == ("htdemucs_ft", 2, 0.5)
    assert not batch.is_model_named
    assert batch.sets == (tmp_path / "sets",) and batch.split.out == str(tmp_path / "sets")


def test_a_use_is_preset_model_and_stems(tmp_path: Path) -> None:
    text = 'inputs = ["a.wav"]\noutputs = [{folder = "out"}]\nuse = "practice:guitar"\n'
    batch = read_batch(write_batch(tmp_path, text), "preview")
    assert batch.variants == (Variant("practice-minus-guitar"),)
    assert (batch.split.model, batch.split.two_stems) == ("htdemucs_6s", "guitar")
    with pytest.raises(RequestError, match=r"use = 'practice:guitar' \(beside presets; it brings the preset"):
        read_batch(write_batch(tmp_path, text + 'presets = ["drumless"]\n'), "preview")
    remix = text.replace("practice:guitar", "remix") + 'presets = ["drumless"]\n'
    batch = read_batch(write_batch(tmp_path, remix), "preview")
    assert batch.variants == (Variant("drumless"),)
    assert (batch.split.model, batch.split.two_stems) == ("htdemucs_ft", None)
    batch = read_batch(write_batch(tmp_path, text + 'split = {model = "htdemucs"}\n'), "preview")
    assert (batch.split.model, batch.is_model_named) == ("htdemucs", True)


def test_without_a_split_table_the_settings_model_splits(tmp_path: Path) -> None:
    text = 'inputs = ["a.wav"]\npresets = ["karaoke"]\noutputs = [{folder = "out"}]\n'
    batch = read_batch(write_batch(tmp_path, text), "preview")
    assert (batch.split.model, batch.split.overlap, batch.split.shifts) == ("preview", 0.25, 0)


def test_where_a_batch_names_no_precision_the_settings_have_it(tmp_path: Path) -> None:
    text = 'inputs = ["a.wav"]\npresets = ["karaoke"]\noutputs = [{folder = "out"}]\n'
    assert read_batch(write_batch(tmp_path, text), "preview").split.precision is Precision.FULL
    batch = read_batch(write_batch(tmp_path, text), "preview", precision=Precision.HALF)
    assert batch.split.precision is Precision.HALF


def test_what_no_output_names_is_called_as_the_settings_say(tmp_path: Path) -> None:
    text = 'inputs = ["a.wav"]\npresets = ["karaoke"]\noutputs = [{folder = "out"}]\n'
    batch = read_batch(write_batch(tmp_path, text), "preview", "{stem} {job8}")
    made = make_request(tmp_path, batch.variants[0], batch.outputs[0])
    assert (made.file_names, made.sessions) == ("{stem} {job8}", ())
    assert batch.split.file_names == "{stem} {job8}"


GOOD = {"inputs": '["a.wav"]', "presets": '["karaoke"]', "outputs": '[{folder = "out"}]'}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("inputs", None, "inputs is not there"),
        ("inputs", "[]", "inputs = []"),
        ("inputs", "[3]", "inputs.0 = 3"),
        ("inputs", '["*.nonesuch"]', "no audio file and no finished set matches"),
        ("presets", '"karaoke"', "presets = 'karaoke'"),
        ("presets", "[3]", "presets.0 = 3"),
        ("presets", "[{set = []}]", "presets.0.preset is not there"),
        ("presets", '[{preset = "karaoke", set = "x"}]', "presets.0.set = 'x'"),
        ("presets", '[{preset = "karaoke", gain = 3}]', "presets.0.gain is no key"),
        ("outputs", "[3]", "outputs.0 = 3"),
        ("outputs", "[{}]", "outputs.0.folder is not there"),
        ("outputs", '[{folder = "out", format = "ogg"}]', "outputs.0.format = 'ogg' (one of auto, wav16"),
        ("outputs", '[{folder = "out", mp3 = 1}]', "outputs.0.mp3 = 1 (true or false)"),
        ("outputs", '[{folder = "out", speed = "slow"}]', "outputs.0.speed = 'slow' (a number)"),
        ("outputs", '[{folder = "out", tail = "long"}]', "outputs.0.tail = 'long' (one of trim, extend)"),
        ("outputs", '[{folder = "out", colour = "red"}]', "outputs.0.colour is no key"),
        (
            "outputs",
            '[{folder = "out", file_names = "{name}"}]',
            "outputs.0.file_names '{name}': without {stem}",
        ),
        ("outputs", '[{folder = "out", file_names = 3}]', "outputs.0.file_names = 3 (a text)"),
        ("outputs", '[{folder = "out", sessions = ["als"]}]', "outputs.0.session 'als' (one of rpp"),
        ("outputs", '[{folder = "out", sessions = "rpp"}]', "outputs.0.sessions = 'rpp' (a list such as"),
        ("split", '{model = ""}', "split.model = ''"),
        ("split", "3", "split = 3"),
        ("use", '"dancing"', "use = 'dancing' (one of karaoke"),
        ("split", "{shifts = 1.5}", "split.shifts = 1.5"),
        ("split", '{precision = "bf16"}', "split.precision = 'bf16' (one of full, half)"),
        ("split", "{shifts = 900}", "split: shifts 900 (between 0 and 20)"),
        ("split", "{overlap = 1}", "split: overlap 1 (between 0 and 0.95)"),
        ("split", '{quality = "fine"}', "split.quality = 'fine' (one of draft, good, best)"),
        ("split", "{stems = 3}", "split.stems is no key"),
        ("outs", "[]", "outs is no key"),
        ("inputs", "[", "Invalid value"),
    ],
)
def test_what_a_batch_file_cannot_say_is_named(
    key: str, value: str | None, words: str, tmp_path: Path
) -> None:
    entries = {**GOOD, key: value}
    path = write_batch(tmp_path, "\n".join(f"{k} = {v}" for k, v in entries.items() if v is not None))
    with pytest.raises(RequestError) as caught:
        read_batch(path, "preview")
    assert words in str(caught.value) and "remix.toml" in str(caught.value)


def test_a_batch_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'.*nowhere\.toml' cannot be read"):
        read_batch(tmp_path / "nowhere.toml", "preview")


def test_places_where_sets_lie_are_the_outputs_unless_one_is_named(tmp_path: Path) -> None:
    outputs = [Output(tmp_path / "a"), Output(tmp_path / "b"), Output(tmp_path / "a", mp3=True)]
    usual = (tmp_path / "stems", tmp_path / "remixes")
    assert list_places(tmp_path, outputs, None) == (tmp_path / "a", tmp_path / "b", *usual)
    assert list_places(tmp_path, [Output(usual[1])], None) == (usual[1], usual[0])
    assert list_places(tmp_path, outputs, tmp_path / "c") == (tmp_path / "c",)
