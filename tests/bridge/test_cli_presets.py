"""`stembridge presets`: what a person reads of them, and one of their own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from stembridge.cli import main
from stembridge.cli.presets import complete_presets
from stembridge.presets import find_presets, own_folder, read_preset
from stembridge.settings import Settings, load_settings

HEAD = '[preset]\nname = "Mine"\nuse = "x"\n'
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("STEMBRIDGE_HOME", str(tmp_path / "home"))
    return load_settings()


def write_own(settings: Settings, name: str, text: str) -> Path:
    folder = own_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text, "utf-8")
    return folder / f"{name}.toml"


def test_list_tells_of_each_what_it_is_for_and_what_it_changes(settings: Settings, capsys: Capture) -> None:
    write_own(settings, "karaoke", HEAD + "[stems.vocals]\ngain_db = -6.5\n")
    write_own(settings, "broken", HEAD + "[stems.vocals]\ngain_db = 99\n")
    assert main(["presets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = dict(zip(lines[::2], lines[1::2], strict=True))
    assert [line.split(":")[0].split(" (yours")[0] for line in told] == list(find_presets(settings))
    assert told["karaoke (yours, in place of ours): x"] == "    vocals -6.5 dB"
    assert "line 5: stems.vocals.gain_db = 99 is out of range (dB" in told["broken (yours): cannot be used"]
    assert told["acapella: the vocals alone, without what the model could not place"] == "    only vocals"
    (punch,) = (words for name, words in told.items() if name.startswith("drum-punch:"))
    assert punch == ("    punch: a stem of its own from drums: gate, compressor, low_shelf, peak, +4 dB")


def test_show_gives_a_preset_that_can_be_saved_and_says_what_its_effects_do(
    tmp_path: Path, capsys: Capture
) -> None:
    assert main(["presets", "show", "Drum punch"]) == 0
    shown = capsys.readouterr().out
    assert (
        "# punch.effects.2: low_shelf, lifts or cuts what is below the corner: cutoff 90 Hz, gain 2 dB, q"
        in shown
    )
    assert "# Late enough to let the stick" in shown, "the file's own comments"
    path = tmp_path / "again.toml"
    path.write_text(shown, "utf-8")
    again, shipped = read_preset(path), read_preset(find_presets(load_settings())["drum-punch"])
    assert again == shipped


def test_show_gives_a_preset_as_it_is_with_changes(tmp_path: Path, capsys: Capture) -> None:
    change = ["--set", "vocals.high_shelf.gain_db=2.5"]
    assert (
        main(["presets", "show", "vocal-air", *change, "--set", "other.mute=true", "--set", "tail=extend"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "# other muted\n" in shown and "# goes on until the last tail" in shown
    assert "cutoff 7000 Hz, gain 2.5 dB" in shown
    table = tomllib.loads(shown)
    assert table["stems"]["vocals"]["effects"][1]["gain_db"] == 2.5
    assert main(["presets", "show", "vocal-air", "--set", "vocals.high_shelf.gain_db=99"]) == 1
    assert "stembridge: --set vocals.high_shelf.gain_db=99: " in capsys.readouterr().err


def test_show_speaks_of_every_part(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "all.toml"
    path.write_text(
        HEAD + '[stems.bass]\nsolo = true\nwet = 0.25\n[[stems.bass.effects]]\nkind = "plugin"\n'
        'path = "A B.vst3"\nparameters = {drive = 0.5}\nstate = "AAAA"\n'
        '[[stems.bass.effects]]\nkind = "invert"\n'
        '[[master.effects]]\nkind = "width"\nmute_mid = true\n[[master.effects]]\nkind = "ladder"\n'
        '[master]\nmatch = "rms"\n',
        "utf-8",
    )
    assert main(["presets", "show", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "# only bass",
        "# bass A B, invert, 25% wet",
        "# all of it width, ladder",
        "# as loud as the original (RMS)",
    ]
    assert "# bass.effects.0: plugin A B.vst3: a state of 3 bytes, drive 0.5" in lines
    assert "# bass.effects.1: invert, turns the polarity over" in lines
    assert "# bass: 25% of that, the rest as it was" in lines
    assert any(line.startswith("# master.effects.0: width") and "mute_mid" in line for line in lines)
    assert any(line.startswith("# master.effects.1: ladder") and "mode lpf12" in line for line in lines)


def test_check_says_what_is_wrong_with_which(settings: Settings, tmp_path: Path, capsys: Capture) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(HEAD + '[[stems.bass.effects]]\nkind = "compressor"\nratio = 0\n', "utf-8")
    plugin = tmp_path / "plugin.toml"
    plugin.write_text(HEAD + '[[master.effects]]\nkind = "plugin"\npath = "Nonesuch.vst3"\n', "utf-8")
    assert main(["presets", "check", "karaoke", str(wrong), "kareoke", str(plugin), "bass-lift"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "karaoke: ok: vocals muted",
        "bass-lift: ok: bass +4 dB",
    ]
    first, second, third = told.err.splitlines()
    assert "wrong.toml, line 6: stems.bass.effects.0: compressor.ratio = 0.0" in first and "1 to 100" in first
    assert second.startswith("kareoke: there is no preset 'kareoke' (did you mean karaoke")
    assert 'plugin "Nonesuch.vst3"' in third
    assert main(["presets", "check", "vocals-up", "--set", "vocals.gain_db=99"]) == 1
    assert "vocals-up: --set vocals.gain_db=99: stems.vocals.gain_db = 99" in capsys.readouterr().err


def test_check_doubts_what_can_hardly_be_meant(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(
        HEAD + "[stems.bass]\nmute = true\n[stems.vocal]\ngain_db = 1\n"
        '[stems.no_drums]\nmute = true\n[[sends]]\nname = "a"\nlevels_db = { bass = 0, drums = 0 }\n',
        "utf-8",
    )
    assert main(["presets", "check", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "    bass is not heard, so it sends nothing",
        "    no model has a stem 'vocal': did you mean vocals? only sets of your own may have it",
    ]
    path.write_text(HEAD + "[stems.bass]\nsolo = true\n[stems.drums]\ngain_db = 1\n", "utf-8")
    assert main(["presets", "check", str(path)]) == 0
    assert "drums is not heard, so its effects" in capsys.readouterr().out


def test_new_begins_a_preset_that_can_be_used_at_once(settings: Settings, capsys: Capture) -> None:
    assert main(["presets", "new", "My Voice"]) == 0
    path = own_folder(settings) / "my-voice.toml"
    assert capsys.readouterr().out.splitlines()[0] == str(path)
    assert main(["presets", "check", "my-voice"]) == 0
    assert capsys.readouterr().out == "my-voice: ok: vocals high_shelf, +1.5 dB\n"
    assert read_preset(path).name == "My voice"


def test_all_that_the_new_preset_offers_in_comments_can_be_used(settings: Settings) -> None:
    assert main(["presets", "new", "whole"]) == 0
    path = own_folder(settings) / "whole.toml"
    first, *rest = path.read_text("utf-8").splitlines()
    assert first.startswith("# `stembridge presets check whole`")
    said = [line.removeprefix("# ") for line in rest]
    path.write_text("\n".join(line for line in said if not line.startswith("mute")), "utf-8")
    preset = read_preset(path)
    assert len(preset.stems["vocals"].chain.effects) == 2
    assert (preset.sends[0].name, preset.master.match, len(preset.master.chain.effects)) == (
        "hall",
        "lufs",
        1,
    )


def test_new_can_begin_with_another(settings: Settings) -> None:
    assert main(["presets", "new", "harder", "--from", "drum-punch"]) == 0
    mine, shipped = (read_preset(find_presets(settings)[name]) for name in ("harder", "drum-punch"))
    assert (mine.name, mine.use, mine.sends, mine.master) == (
        "Harder",
        shipped.use,
        shipped.sends,
        shipped.master,
    )


def test_new_takes_a_shipped_name_only_for_a_copy_of_it(settings: Settings, capsys: Capture) -> None:
    for origin in ([], ["--from", "drumless"]):
        assert main(["presets", "new", "Karaoke", *origin]) == 1
        hint = "'karaoke' is a preset that is shipped (take another name, or begin with it: --from karaoke)"
        assert hint in capsys.readouterr().err
    assert not own_folder(settings).exists()
    assert main(["presets", "new", "karaoke", "--from", "karaoke"]) == 0
    assert "takes the place of the karaoke that is shipped" in capsys.readouterr().out
    assert main(["presets", "show", "karaoke"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"# {own_folder(settings) / 'karaoke.toml'} (yours, in place of ours)"
    assert shown[1] == "# vocals muted"
    assert main(["presets", "new", "karaoke", "--from", "karaoke"]) == 73
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 9000, "0x" + "f" * 5000])
def test_one_file_that_nobody_can_read_does_not_hide_the_others(
    settings: Settings, value: str, capsys: Capture
) -> None:
    write_own(settings, "broken", f"{HEAD}[stems.vocals]\ngain_db = {value}\n")
    assert main(["presets", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(find_presets(settings))
    place = lines.index("broken (yours): cannot be used")
    assert "broken.toml" in lines[place + 1] and len(lines[place + 1]) < 400
    assert main(["presets", "check", "karaoke", "--set", f"drums.gain_db={value}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("karaoke: --set drums.gain_db=") and len(line) < 600


def test_new_never_overwrites(settings: Settings, capsys: Capture) -> None:
    path = write_own(settings, "mine", "precious")
    assert main(["presets", "new", "mine"]) == 73
    assert "is there already" in capsys.readouterr().err
    assert path.read_text("utf-8") == "precious"


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "a.toml", "ä"])
def test_new_takes_no_name_that_is_no_name(settings: Settings, name: str, capsys: Capture) -> None:
    assert main(["presets", "new", name]) == 1
    assert f"a preset cannot be called {name!r}" in capsys.readouterr().err
    assert not own_folder(settings).exists()


def test_names_are_completed() -> None:
    found = complete_presets(None, None, "practice-minus-")  # type: ignore[arg-type]
    assert len(found) == 6
