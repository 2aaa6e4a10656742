"""Presets: what a file may say, what is wrong in one is named with its line, and changes in place of it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.errors import PresetError
from stembridge.preset_changes import apply_changes
from stembridge.presets import (
    Level,
    Master,
    Preset,
    Send,
    StemChange,
    find_preset,
    find_presets,
    own_folder,
    read_preset,
)
from stembridge.settings import Settings, load_settings
from stembridge.toml_text import write_toml

HEAD = '[preset]\nname = "Mine"\nuse = "x"\n'
WHOLE = """\
[preset]
name = "Whole"
use = "everything that can be said"
tail = "extend"

[stems]
drums.mute = true

[stems.vocals]
gain_db = 1.5
wet = 0.9

[[stems.vocals.effects]]
kind = "high_shelf"
cutoff_hz = 9000
gain_db = 4.0

[[stems.vocals.effects]]
kind = "compressor"
threshold_db = -20
ratio = 2.0

[[stems.vocals.effects]]
kind = "peak"

[[stems.vocals.effects]]
kind = "peak"
gain_db = 3.0

[[stems.bass.effects]]
kind = "plugin"
path = "ZamCompX2.vst3"
plugin = "ZamCompX2"
parameters = { "Attack Time 1.5" = 0.25, knee = 1 }
latency = "auto"
block_frames = 480

[[sends]]
name = "slap"
levels_db = { vocals = 0 }

[[sends]]
name = "hall"
gain_db = -3.0
wet = 0.5
levels_db = { vocals = -12.0, other = -18.0 }

[[sends.effects]]
kind = "reverb"
mix = 1.0
dry = 0.0

[master]
match = "lufs"
ceiling_dbtp = -1.0
wet = 0.25

[[master.effects]]
kind = "low_cut"
cutoff_hz = 30.0
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, environ={})


def write(folder: Path, text: str, name: str = "mine") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


def read(folder: Path, text: str, *changes: str) -> Preset:
    return read_preset(write(folder, text), changes)


def test_the_daemons_front_reads_presets_with_the_standard_library_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); import stembridge.presets, stembridge.recipes\n"
        "names = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stembridge']"


def test_all_that_a_file_can_say_is_read(tmp_path: Path) -> None:
    preset = read(tmp_path, WHOLE)
    shelf = Effect("high_shelf", {"cutoff_hz": 9000.0, "gain_db": 4.0})
    compressor = Effect("compressor", {"threshold_db": -20.0, "ratio": 2.0})
    peaks = (Effect("peak"), Effect("peak", {"gain_db": 3.0}))
    raw = {"Attack Time 1.5": 0.25, "knee": 1.0}
    plugin = PluginEffect("ZamCompX2.vst3", "ZamCompX2", raw, b"", "auto", 480)
    reverb = Chain((Effect("reverb", {"mix": 1.0, "dry": 0.0}),), 0.5)
    low_cut = Chain((Effect("low_cut", {"cutoff_hz": 30.0}),), 0.25)
    assert (preset.name, preset.use, preset.is_extended) == ("Whole", "everything that can be said", True)
    assert preset.stems == {
        "drums": StemChange(is_muted=True),
        "vocals": StemChange(1.5, chain=Chain((shelf, compressor, *peaks), 0.9)),
        "bass": StemChange(chain=Chain((plugin,))),
    }
    assert preset.sends == (
        Send("slap", {"vocals": 0.0}, Chain()),
        Send("hall", {"vocals": -12.0, "other": -18.0}, reverb, -3.0),
    )
    assert preset.master == Master(low_cut, "lufs", -1.0)


def test_what_is_not_said_changes_nothing(tmp_path: Path) -> None:
    preset = read(tmp_path, HEAD + "[stems.vocals]\nmute = false\n")
    assert preset.stems == {"vocals": StemChange()}
    assert (preset.sends, preset.master, preset.is_extended) == ((), Master(), False)
    assert read(tmp_path, HEAD + '[master]\nmatch = "off"\nceiling_dbtp = "off"\n').master == Master()


def test_the_text_of_a_preset_reads_as_the_very_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "comp.state").write_bytes(bytes(range(256)))
    (tmp_path / "a" / "room.wav").write_bytes(b"")
    text = (
        WHOLE + '[[master.effects]]\nkind = "plugin"\npath = "C:\\\\x \\"y\\".vst3"\n'
        'state_file = "comp.state"\n'
        '[[master.effects]]\nkind = "convolution"\nimpulse_response = "room.wav"\n'
    )
    first = read(tmp_path / "a", text, "vocals.gain_db=-3", "sends.hall.levels_db.bass=-6", "other.mute=true")
    again = read(tmp_path / "b", first.text)
    assert again == first
    assert "state_file" not in first.text
    plugin, room = first.master.chain.effects[1:]
    assert isinstance(plugin, PluginEffect)
    assert plugin.state == bytes(range(256))
    assert plugin.path == 'C:\\x "y".vst3'
    assert isinstance(room, Effect)
    assert room.values["impulse_response"] == str(tmp_path / "a" / "room.wav")


TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | st.lists(st.dictionaries(TEXTS, inner), max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_every_table_survives_its_text(table: dict[str, Any]) -> None:
    assert tomllib.loads(write_toml(table)) == table


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (HEAD + "\n[stems.vocals]\ngain_db = 24.5\n", 6, r"gain_db = 24.5 is out of range \(dB, -60 to 24\)"),
        (HEAD + "\n[stems.vocals]\ngain_db = true\n", 6, "stems.vocals.gain_db = true is no number"),
        (HEAD + "\n[stems.vocals]\ngain_db = '-3'\n", 6, "gain_db = '-3' is text: leave out the quotes"),
        (HEAD + "\n[stems.vocals]\ngain_db = nan\n", 6, "stems.vocals.gain_db = nan is no number"),
        (HEAD + "[stems.bass]\nmute = true\n[stems.vocals]\nmute = 1\n", 7, "mute = 1 is no truth .true or"),
        (HEAD + "[stems.bass]\nsolo = 'yes'\n", 5, "stems.bass.solo = 'yes' is no truth .true or"),
        (HEAD + "[stems.vocals]\nvolume = 1\n", 5, r"volume is no key .there are gain_db, mute, solo, wet"),
        (HEAD + "[stems.vocals]\ngain = 1\n", 5, r"did you mean gain_db\?"),
        (HEAD + "[stems]\nvocals.gain_db = 99\n", 5, "stems.vocals.gain_db = 99"),
        (HEAD + "stems.vocals.gain_db = 1", 4, "preset.stems is no key"),
        (HEAD + "[stems.vocals]\n[extra]\na = 1\n", 5, "extra is no table of a preset .there are preset, st"),
        ('[preset]\nname = "a"\nuse = "x"\ncolour = 1\n[stems.vocals]\nmute = true', 4, "colour is no key"),
        ('[preset]\nname = ""\nuse = "x"\n[stems.vocals]\nmute = true', 2, "name = '' is no line of text"),
        ('[preset]\nname = "a"\nuse = "x\\ny"\n[stems.vocals]\nmute = true', 3, r"use = 'x\\ny' is no line"),
        (HEAD + 'tail = "cut"\n[stems.vocals]\nmute = true', 4, "tail = 'cut' is none of its words .one of"),
        (HEAD + "[stems.vocals]\n", 4, r"nothing in \[stems.vocals\]"),
        (HEAD + "[stems]\nvocals = 3\n", 5, r"nothing in \[stems.vocals\]"),
        (HEAD + "[stems.vocals]\nwet = 0.5\n", 5, "stems.vocals.wet has no effects to mix"),
        (HEAD + '[stems.a]\nwet = 1.5\n[[stems.a.effects]]\nkind = "peak"', 5, "a.wet = 1.5 is out of range"),
        (HEAD + "[stems.a]\neffects = 3", 5, r"stems.a.effects is no list of tables .begin each with \[\[st"),
        (HEAD + '[[stems.a.effects]]\nname = "Reverb"\n', 4, 'effects.0.kind is required .as in kind = "rev'),
        (HEAD + '[[stems.a.effects]]\nkind = "revreb"\n', 5, "'revreb' is not known .did you mean reverb"),
        (HEAD + '[[stems.a.effects]]\nkind = "PitchShift"\n', 5, "moves transients.* --pitch"),
        (
            HEAD + '[[stems.a.effects]]\nkind = "peak"\n[[stems.b.effects]]\nkind = "gain"\n'
            '[[stems.a.effects]]\nkind = "compressor"\nratio = 2\nthreshold_db = 9\n', 11,
            r"stems.a.effects.1: compressor.threshold_db = 9.0 .*-80 to 0 dBFS",
        ),
        (
            HEAD + '[[sends]]\nname = "a"\nlevels_db = {b = 0}\n[[sends.effects]]\nkind = "peak"\n'
            '[[sends]]\nname = "b"\nlevels_db = {b = 0}\n[[sends.effects]]\nkind = "peak"\nhertz = 1\n', 14,
            r"sends.1.effects.0: peak.hertz is no parameter of peak .*it has cutoff_hz, gain_db, q",
        ),
        (HEAD + '[[master.effects]]\nkind = "convolution"\n', 5, "convolution lacks impulse_response"),
        (
            HEAD + '[[master.effects]]\nkind = "convolution"\nmix = 1\nimpulse_response = "gone.wav"\n', 7,
            "convolution.impulse_response = '.*gone.wav' .*the path of a file that is there",
        ),
        (HEAD + "[master]\nx = 1\n", 5, "master.x is no key .there are match, ceiling_dbtp, wet, effects"),
        (HEAD + '[master]\nmatch = "peak"\n', 5, "master.match = 'peak' is none of .*off, rms, lufs"),
        (HEAD + "[master]\nceiling_dbtp = 1\n", 5, "master.ceiling_dbtp = 1 is out of .*dBTP or 'off', -30"),
        (HEAD + "[sends]\nx = 1\n", 4, r"sends is no list of tables .begin each with \[\[sends\]\]"),
        (HEAD + '[[sends]]\nname = "a"\n', 4, r"nothing in \[sends.0.levels_db\]"),
        (HEAD + '[[sends]]\nname = "a/b"\nlevels_db = {b = 0}\n', 5, "a send cannot be called 'a/b'"),
        (HEAD + '[[sends]]\nname = "Residual"\nlevels_db = {b = 0}\n', 5, "cannot be called 'Residual'"),
        (
            HEAD + '[[sends]]\nname = "a"\nlevels_db = {b = 0}\n[[sends]]\nname = "A"\nlevels_db.b = 0\n', 8,
            "a send cannot be called 'A' .a name of its own",
        ),
        (HEAD + '[[sends]]\nname = "a"\nlevels_db = {b = 30}\n', 6, "levels_db.b = 30 is out of range .dB"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PresetError, match=reason) as caught:
        read_preset(path)
    assert f"{path}, line {line}:" in str(caught.value)
    assert "\n" not in str(caught.value)


PLUGIN = HEAD + '[[stems.a.effects]]\nkind = "plugin"\n'


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 4, "stems.a.effects.0.path is required .as in path = "),
        (
            'path = "x.vst3"\nthreshold = 3\n',
            7,
            "threshold is no key .there are kind, path, plugin, parameters",
        ),
        (
            'path = "x.vst3"\nparameters = {a = 1.5}\n',
            7,
            "parameters.a = 1.5 is out of range .a raw value, 0 to 1",
        ),
        ('path = "x.vst3"\nparameters = {a = true}\n', 7, "parameters.a = true is no number"),
        ('path = "x.vst3"\nparameters = 3\n', 7, "parameters is no table"),
        ('path = "x.vst3"\nstate = "no base64!"\n', 7, "state is no base64"),
        ('path = "x.vst3"\nstate = 3\n', 7, "state is no base64"),
        ('path = "x.vst3"\nstate_file = "gone"\n', 7, "state_file = 'gone': .*No such file"),
        ('path = "x.vst3"\nstate = ""\nstate_file = "x"\n', 8, "has state and state_file .one of them"),
        (
            'path = "x.vst3"\nlatency = "mine"\n',
            7,
            "latency = 'mine' is none of its words .one of reported, auto",
        ),
        (
            'path = "x.vst3"\nblock_frames = 0\n',
            7,
            "block_frames = 0 is out of range .whole frames, 32 to 8192",
        ),
        ('path = "x.vst3"\nblock_frames = 31\n', 7, "block_frames = 31"),
        ('path = "x.vst3"\nblock_frames = 8193\n', 7, "block_frames = 8193"),
        ('path = "x.vst3"\nblock_frames = 512.0\n', 7, "block_frames = 512.0 is no whole number"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    path = write(tmp_path, PLUGIN + text)
    with pytest.raises(PresetError, match=reason) as caught:
        read_preset(path)
    assert f"{path}, line {line}:" in str(caught.value)


def test_a_plugins_state_may_run_over_lines(tmp_path: Path) -> None:
    state = os.urandom(300)
    text = base64.encodebytes(state).decode()
    assert text.count("\n") > 3
    preset = read(tmp_path, PLUGIN + f'path = "x.vst3"\nstate = """\n{text}"""\n')
    (effect,) = preset.stems["a"].chain.effects
    assert isinstance(effect, PluginEffect)
    assert effect.state == state


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r'\[preset\] is required .begin with .preset., name = "..." and use'),
        ("[preset]\n", r"line 1: there is nothing in \[preset\] .begin with"),
        (HEAD.replace("use", "tail"), "line 1: preset.use is required"),
        ("[preset]\nuse = 'x'\n", "line 1: preset.name is required .as in name = "),
        (HEAD, r"nothing in \[stems\] .and no \[\[sends\]\]"),
        ("[preset\n", "line 1"),
        ("a = 1", "a is no"),
        ("a = " + "[" * 100_000, "nested too deep .mend or remove it"),
        ("a = " + "[" * 200 + "]" * 200, "nested too deep"),
        ("a" + ".a" * 200 + " = 1", "nested too deep"),
        (HEAD + "[stems.vocals]\ngain_db = " + "9" * 5000, "a number in it is too long"),
        (
            HEAD + "[[stems.a.effects]]\nkind = 'gain'\ngain_db = 0x" + "f" * 5000,
            "a number in it is too long",
        ),
        ("#" + " " * (16 << 20), "more than 16 MiB"),
    ],
)
def test_what_is_no_preset_at_all_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(PresetError, match=reason):
        read(tmp_path, text)


def test_a_file_that_is_gone_or_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"gone\.toml"):
        read_preset(tmp_path / "gone.toml")
    with pytest.raises(PresetError, match="mend or remove it"):
        read_preset(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'[preset]\nname = "\xe4"\n')
    with pytest.raises(PresetError, match="can't decode"):
        read_preset(tmp_path / "latin.toml")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(PresetError, match="no regular file"):
        read_preset(tmp_path / "pipe.toml")


def chain_of(preset: Preset, stem: str) -> list[tuple[str, dict[str, Any]]]:
    effects = preset.stems[stem].chain.effects
    return [(effect.kind, dict(effect.values)) for effect in effects if isinstance(effect, Effect)]


def test_changes_stand_in_place_of_the_files_values(tmp_path: Path) -> None:
    preset = read(
        tmp_path, WHOLE, "vocals.gain_db=-3", "vocals.compressor.threshold_db = -30", "vocals.effects.3.q=.5",
        "vocals.wet=1", "vocals.mute=false", "other.gain_db=+2", "drums.mute=false", "tail=trim",
        "sends.hall.gain_db=-9", "sends.hall.levels_db.vocals=-6", "sends.hall.levels_db.bass=-7",
        "sends.hall.reverb.mix=0.5", "master.match=rms", "master.ceiling_dbtp=off", "master.low_cut.poles=2",
    )  # fmt: skip
    assert chain_of(preset, "vocals") == [
        ("high_shelf", {"cutoff_hz": 9000.0, "gain_db": 4.0}),
        ("compressor", {"threshold_db": -30.0, "ratio": 2.0}),
        ("peak", {}),
        ("peak", {"gain_db": 3.0, "q": 0.5}),
    ]
    vocals = preset.stems["vocals"]
    assert (vocals.gain_db, vocals.chain.wet, vocals.is_muted) == (-3.0, 1.0, False)
    assert preset.stems["other"] == StemChange(2.0)
    assert preset.stems["drums"] == StemChange()
    slap, hall = preset.sends
    assert slap == Send("slap", {"vocals": 0.0}, Chain())
    assert (hall.gain_db, hall.levels_db) == (-9.0, {"vocals": -6.0, "other": -18.0, "bass": -7.0})
    assert hall.chain.effects == (Effect("reverb", {"mix": 0.5, "dry": 0.0}),)
    low_cut = Chain((Effect("low_cut", {"cutoff_hz": 30.0, "poles": 2.0}),), 0.25)
    assert preset.master == Master(low_cut, "rms", None)
    assert not preset.is_extended


def test_the_last_of_two_changes_wins_and_the_file_stays(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE, "vocals.gain_db=1", "vocals.gain_db=2").stems["vocals"].gain_db == 2.0
    assert (tmp_path / "mine.toml").read_text("utf-8") == WHOLE
    assert read(tmp_path, WHOLE).stems["vocals"].gain_db == 1.5


def test_a_plugins_parameters_can_be_changed_whatever_they_are_called(tmp_path: Path) -> None:
    preset = read(
        tmp_path, WHOLE, "bass.plugin.parameters.Attack Time 1.5=0.75", "bass.effects.0.parameters.new=1"
    )
    (effect,) = preset.stems["bass"].chain.effects
    assert isinstance(effect, PluginEffect)
    assert effect.parameters == {"Attack Time 1.5": 0.75, "knee": 1.0, "new": 1.0}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("vocals.gain_db", "is no change .as in vocals.gain_db=-3"),
        ("vocals.gain_db=", "is no change"),
        ("vocals..gain_db=1", "is no change"),
        ("=1", "is no change"),
        ("vocals.gain_db=1\nmute = true", "is no change"),
        ("vocals.gain_db=\udcff", "is no change"),
        ("vocals=1", "what of vocals is meant"),
        ("master=1", "what of master is meant"),
        ("sends.hall=1", "what of hall is meant"),
        ("vocals.effects.0=1", r"stems.vocals.effects.0|what of vocals.effects.0 is meant"),
        ("vocals.compressor=1", "vocals.compressor is no key"),
        ("preset.name=x", "preset.name cannot be changed .tail=trim or"),
        ("tail=cut", "preset.tail = 'cut'"),
        ("tail.x=cut", "tail.x cannot be changed"),
        ("vocals.gain_db=loud", "stems.vocals.gain_db = 'loud' is no number .dB, -60 to 24"),
        ("vocals.gain_db=25", "stems.vocals.gain_db = 25 is out of range .dB"),
        ("vocals.gain_db=nan", "stems.vocals.gain_db = nan"),
        ("vocals.gain_db=" + "9" * 5000, "stems.vocals.gain_db = inf"),
        ("vocals.gain_db=0x" + "f" * 5000, "stems.vocals.gain_db = '0xf"),
        ("vocals.gain_db=" + "[" * 9000, "stems.vocals.gain_db = '..*"),
        ("vocals.effects." + "9" * 5000 + ".q=1", "vocals has no effect 999"),
        ("vocals.compressor.ratio=" + "9" * 400, "compressor.ratio = inf"),
        ("vocals.volume=3", "stems.vocals.volume is no key"),
        ("vocals.compressor.ratio=0", r"compressor.ratio = 0.0 .*1 to 100"),
        ("vocals.compressor.rato=2", r"rato is no parameter of compressor .did you mean ratio"),
        ("vocals.compressor.ratio.x=2", "ratio.x is no parameter"),
        (
            "vocals.compresor.ratio=2",
            r"vocals has no effect 'compresor' .did you mean compressor\? its effects",
        ),
        ("other.peak.q=2", "other has no effect 'peak' .it has no effects"),
        ("vocals.peak.q=2", "2 effects of kind peak .say vocals.effects.2 or vocals.effects.3"),
        ("vocals.effects.4.q=2", "vocals has no effect 4 .0 to 3"),
        ("vocals.effects.-1.q=2", "vocals has no effect -1 .0 to 3"),
        ("other.effects.0.q=2", "other has no effect 0 .it has none"),
        ("drums.wet=0.5", "stems.drums.wet has no effects"),
        ("sends.room.gain_db=1", "no send 'room' .there are slap, hall"),
        ("sends.hall.levels_db.vocals=99", "sends.1.levels_db.vocals = 99"),
        ("sends.hall.name=slap", "a send cannot be called 'slap'"),
        ("master.ceiling_dbtp=3", "master.ceiling_dbtp = 3"),
        ("bass.plugin.parameters.knee=2", "parameters.knee = 2 is out of range .a raw value"),
        ("bass.plugin.latency=x", "latency = 'x'"),
        ("other.effects=[{kind = 'revreb'}]", "'revreb' is not known"),
    ],
)
def test_a_change_that_is_wrong_is_named_by_its_own_words(tmp_path: Path, change: str, reason: str) -> None:
    with pytest.raises(PresetError, match=reason) as caught:
        read(tmp_path, WHOLE, "vocals.gain_db=2", change, "other.gain_db=1")
    told = str(caught.value)
    assert told.startswith(("--set " + change[:40], "--set " + repr(change)))
    assert len(told) < 600 and "\n" not in told


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("vocals.effects=x", "vocals.effects.0.q=1"),
        ("vocals.effects=true", "vocals.peak.q=1"),
        ("vocals.effects={a = 1}", "vocals.effects.0.q=1"),
        ("vocals.effects=[{}]", "vocals.peak.q=1"),
        ("vocals.effects=[{kind = 3}]", "vocals.peak.q=1"),
        ("sends.hall.levels_db=3", "sends.hall.levels_db.vocals=-3"),
        ("bass.plugin.parameters=3", "bass.plugin.parameters.knee=1"),
    ],
)
def test_a_change_of_what_another_has_taken_away_is_refused(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(PresetError, match=r"any more .another --set has taken") as caught:
        read(tmp_path, WHOLE, first, second)
    assert str(caught.value).startswith(f"--set {second}: ")


def test_a_plugins_value_in_the_wrong_place_is_refused_with_the_right_one(tmp_path: Path) -> None:
    text = HEAD + '[[stems.vocals.effects]]\nkind = "plugin"\npath = "x.vst3"\n'
    form = "as in --set vocals.plugin.parameters.threshold_db=0.5"
    with pytest.raises(PresetError, match=form):
        read(tmp_path, text, "vocals.plugin.threshold_db=0.4")
    (effect,) = (
        read(tmp_path, text, "vocals.plugin.parameters.threshold_db=0.4").stems["vocals"].chain.effects
    )
    assert isinstance(effect, PluginEffect) and effect.parameters == {"threshold_db": 0.4}


def test_a_send_that_a_change_has_renamed_is_not_found_again(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"no send 'hall' .there are slap, 3"):
        read(tmp_path, WHOLE, "sends.hall.name=3", "sends.hall.gain_db=1")


def test_a_table_that_is_changed_stays_as_it_is() -> None:
    table = tomllib.loads(WHOLE)
    changed, _ = apply_changes(table, ["vocals.gain_db=9", "sends.hall.reverb.mix=0.5", "other.mute=true"])
    assert changed["stems"]["vocals"]["gain_db"] == 9
    assert table == tomllib.loads(WHOLE)


def test_what_is_wrong_in_the_file_is_not_laid_on_a_change(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"line 5: stems.vocals.gain_db = 99"):
        read(tmp_path, HEAD + "[stems.vocals]\ngain_db = 99\n", "vocals.gain_db=3")


def test_effects_can_be_taken_away_by_a_change(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE, "bass.effects=[]").stems["bass"] == StemChange()


MUTED = HEAD + "[stems.drums]\nmute = true\n"
ONLY_BASS = HEAD + "[stems.bass]\nsolo = true\n"


@pytest.mark.parametrize("change", ["drums.gain_db=-12", "drums.effects=[{kind = 'reverb'}]"])
def test_a_change_that_nobody_would_hear_is_refused_with_the_remedy(tmp_path: Path, change: str) -> None:
    with pytest.raises(PresetError) as caught:
        read(tmp_path, MUTED, change)
    assert str(caught.value) == f"--set {change}: drums is muted by this preset (add --set drums.mute=false)"
    assert not read(tmp_path, MUTED, change, "drums.mute=false").stems["drums"].is_muted
    with pytest.raises(PresetError) as caught:
        read(tmp_path, ONLY_BASS, change)
    assert str(caught.value) == (
        f"--set {change}: only bass is heard of this preset (add --set drums.solo=true)"
    )
    heard = read(tmp_path, ONLY_BASS, change, "drums.solo=true")
    assert not heard.levels(ALL)["drums"].is_muted


def test_an_effect_that_a_change_mutes_cannot_be_changed_as_well(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"--set vocals\.compressor\.ratio=3: vocals is muted"):
        read(tmp_path, WHOLE, "vocals.compressor.ratio=3", "vocals.mute=true")
    with pytest.raises(PresetError, match=r"--set vocals\.gain_db=-3: vocals is muted"):
        read(tmp_path, WHOLE, "vocals.mute=true", "vocals.gain_db=-3")


def test_a_change_can_mute_a_stem_that_the_preset_does_something_to(tmp_path: Path) -> None:
    preset = read(tmp_path, WHOLE, "vocals.mute=true")
    assert preset.stems["vocals"] == StemChange(is_muted=True)
    assert read(tmp_path / "again", preset.text) == preset


@pytest.mark.parametrize(
    ("key", "rest"),
    [("gain_db", "gain_db = 3"), ("gain_db", "gain_db = 3\nwet = 1\n[[stems.drums.effects]]\nkind = 'peak'"),
     ("effects", "[[stems.drums.effects]]\nkind = 'peak'")],
)  # fmt: skip
def test_a_file_cannot_mute_what_it_does_something_to(tmp_path: Path, key: str, rest: str) -> None:
    with pytest.raises(
        PresetError, match=f"line 6: drums is muted, so its {key} would do nothing .leave out"
    ):
        read(tmp_path, MUTED + rest)


ALL = ("drums", "bass", "other", "vocals", "residual")


def test_solo_mutes_all_that_is_not_soloed(tmp_path: Path) -> None:
    preset = read(tmp_path, HEAD + "[stems.bass]\nsolo = true\ngain_db = 6\n[stems.vocals]\ngain_db = 1\n")
    levels = preset.levels(ALL)
    assert [stem for stem in ALL if not levels[stem].is_muted] == ["bass"]
    assert levels["bass"] == Level(10 ** (6 / 20))
    both = read(tmp_path, HEAD + "[stems.bass]\nsolo = true\n[stems.drums]\nsolo = true\nmute = true\n")
    assert [stem for stem in ALL if not both.levels(ALL)[stem].is_muted] == ["bass"]


@pytest.mark.parametrize(
    ("text", "is_level_only"),
    [
        ("[stems.bass]\nsolo = true\ngain_db = 6\n", True),
        ("[stems.bass]\ngain_db = 6\n[master]\nceiling_dbtp = -1\n", True),
        ("[stems.bass]\ngain_db = 6\n[master]\nmatch = 'lufs'\n", False),
        ("[[stems.bass.effects]]\nkind = 'peak'\n", False),
        ("[[master.effects]]\nkind = 'peak'\n", False),
        ("[[sends]]\nname = 'a'\nlevels_db = {bass = 0}\n", False),
    ],
)
def test_faders_can_do_gains_and_mutes_alone(tmp_path: Path, text: str, is_level_only: bool) -> None:
    assert read(tmp_path, HEAD + text).is_level_only is is_level_only


def test_a_stem_that_a_set_does_not_have_is_refused(tmp_path: Path, settings: Settings) -> None:
    preset = read_preset(find_presets(settings)["acapella"])
    with pytest.raises(PresetError, match=r"'Acapella' is for vocals, .* .they are drums, no_drums"):
        preset.levels(("drums", "no_drums"))
    guitar = read_preset(find_presets(settings)["practice-minus-guitar"])
    with pytest.raises(PresetError, match=r"is for guitar, .* .htdemucs_6s has guitar; they are drums, bass"):
        guitar.levels(ALL)
    whole = read(tmp_path, WHOLE)
    whole.check_stems(ALL)
    with pytest.raises(PresetError, match="'Whole' is for other, which these stems do not have"):
        whole.check_stems(("drums", "bass", "vocals", "residual"))
    with pytest.raises(PresetError, match="has a send 'hall', and so is one of these stems called"):
        whole.check_stems((*ALL, "Hall"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("vocal.gain_db=2", "have no vocal .did you mean vocals. they are drums, bass, other, vocals, resid"),
        ("guitar.gain_db=2", "have no guitar .htdemucs_6s has guitar; they are drums"),
        ("sends.hall.levels_db.kazoo=2", "have no kazoo .they are drums"),
    ],
)
def test_a_stem_that_only_a_change_names_is_laid_on_the_change(
    tmp_path: Path, change: str, reason: str
) -> None:
    with pytest.raises(PresetError, match=f"^--set {change}: these stems {reason}"):
        read(tmp_path, WHOLE, "vocals.gain_db=2", change).levels(ALL)
    with pytest.raises(PresetError, match="preset 'Whole' is for vocals, which these stems do not have"):
        read(tmp_path, WHOLE, "vocals.gain_db=2").levels(("drums", "bass", "other"))


def test_a_users_own_takes_the_place_of_a_shipped_one(settings: Settings) -> None:
    shipped = list(find_presets(settings))
    text = HEAD + "[stems.vocals]\ngain_db = -6\n"
    write(own_folder(settings), text, "karaoke")
    write(own_folder(settings), text, "zzz")
    found = find_presets(settings)
    assert list(found) == [*shipped, "zzz"]
    assert read_preset(found["karaoke"]).levels(["vocals"]) == {"vocals": Level(10 ** (-6 / 20))}


def test_a_preset_is_found_by_its_name_or_its_path(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presets = find_presets(settings)
    for name in ("vocals-up", "Vocals up", " VOCALS  UP "):
        assert find_preset(name, settings) == presets["vocals-up"]
    path = write(tmp_path / "a", HEAD)
    monkeypatch.chdir(tmp_path / "a")
    for name in (str(path), "mine.toml", "./mine.toml", str(Path("..", "a", "mine.toml"))):
        found = find_preset(name, settings)
        assert found.is_absolute()
        assert found.samefile(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kareoke", r"no preset 'kareoke' .did you mean karaoke"),
        ("qqq", r"no preset 'qqq' .`stembridge presets list` shows all"),
        ("", "no preset ''"),
        ("gone.toml", r"no preset file .*gone\.toml"),
        ("a/b", "no preset file .*a.b"),
    ],
)
def test_a_preset_that_is_not_there_is_refused_with_what_comes_near(
    settings: Settings, name: str, reason: str
) -> None:
    with pytest.raises(PresetError, match=reason):
        find_preset(name, settings)


def test_a_stem_may_be_called_like_a_key_of_an_effect(tmp_path: Path) -> None:
    names = ("kind", "state_file", "effects", "levels_db")
    path = tmp_path / "odd.toml"
    stems = "".join(f"[stems.{name}]\nmute = true\n" for name in names)
    path.write_text(f'[preset]\nname = "Odd"\nuse = "odd names"\n{stems}')
    preset = read_preset(path)
    assert tuple(preset.stems) == names and all(change.is_muted for change in preset.stems.values())
    path.write_text(preset.text)
    assert read_preset(path).stems == preset.stems


def test_an_impulse_response_may_begin_with_a_tilde(tmp_path: Path) -> None:
    path = tmp_path / "tilde.toml"
    (tmp_path / "~nobody-of-that-name.wav").touch()
    path.write_text(
        '[preset]\nname = "T"\nuse = "t"\n[[stems.vocals.effects]]\n'
        'kind = "convolution"\nimpulse_response = "~nobody-of-that-name.wav"\n'
    )
    (effect,) = read_preset(path).stems["vocals"].chain.effects
    assert isinstance(effect, Effect)
    assert effect.values["impulse_response"] == str(tmp_path / "~nobody-of-that-name.wav")


def test_a_preset_of_somebody_who_is_not_here_is_not_there() -> None:
    with pytest.raises(PresetError, match=r"there is no preset file .*~nobody-of-that-name/x\.toml"):
        find_preset("~nobody-of-that-name/x.toml", load_settings(environ={}))
