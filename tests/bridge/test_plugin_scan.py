"""`stembridge plugins`: what is here, what each is, why one cannot be used, and an effect to be pasted."""

from __future__ import annotations

import json
import os
import struct
import tomllib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from plugins.fixture import build_plugin, needs_fixture
from stembridge.cli import main
from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError, RequestError
from stembridge.plugins import folders
from stembridge.plugins.hosted import make_opener
from stembridge.plugins.process import Deadlines
from stembridge.plugins.scan import Finding, find_plugin, read_findings, scan_plugins, stamp_bundle
from stembridge.settings import Settings, load_settings

pytestmark = needs_fixture

PATIENT = Deadlines(60.0, 60.0)


@pytest.fixture
def settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose settings allow one folder alone, with one plugin in it."""
    monkeypatch.setattr(folders, "_standard_folders", lambda: ())
    build_plugin(tmp_path / "vst3", "Late", delay_frames=500, reported_frames=480)
    home.mkdir()
    (home / "settings.toml").write_text(f"plugin_dirs = [{json.dumps(str(tmp_path / 'vst3'))}]\n")
    return load_settings()


def scan(settings: Settings, *, is_fresh: bool = False, deadlines: Deadlines = PATIENT) -> dict[str, Finding]:
    found = scan_plugins(settings, lambda *_: None, is_fresh=is_fresh, deadlines=deadlines)
    assert found == read_findings(settings)
    return {one.name: one for one in found}


def test_a_scan_tells_what_each_plugin_is_and_why_one_cannot_be_used(
    settings: Settings, tmp_path: Path
) -> None:
    build_plugin(tmp_path / "vst3", "Mono", channels=1)
    build_plugin(tmp_path / "vst3", "Pair", classes=2)
    build_plugin(tmp_path / "vst3", "Bad", at_load="abort")
    found = scan(settings)
    assert sorted(found) == ["Bad", "Late", "Mono", "Pair", "Pair Two"]
    assert (found["Late"].reported_frames, found["Late"].late_frames) == (480, 20)
    assert (found["Late"].maker, found["Late"].kind, found["Late"].stereo) == ("Stembridge", "VST3", "plain")
    assert (found["Mono"].stereo, found["Mono"].mono) == ("dual mono", "plain")
    assert found["Pair"].path == found["Pair Two"].path
    assert found["Bad"].reason == 'plugin "Bad" crashed (SIGABRT) while it was opened'
    assert all(not one.reason for name, one in found.items() if name != "Bad")


def test_a_plugin_that_never_loads_costs_the_deadline_once(settings: Settings, tmp_path: Path) -> None:
    scan(settings)
    build_plugin(tmp_path / "vst3", "Slow", at_load="hang")
    reason = scan(settings, deadlines=Deadlines(1.0, 60.0))["Slow"].reason
    assert reason == 'plugin "Slow" did not answer within 1 s while it was opened'
    # A finding of its own: it is not waited for again.
    assert scan(settings, deadlines=Deadlines(0.5, 60.0))["Slow"].reason == reason


def test_a_plugin_is_scanned_again_when_its_file_changed_or_when_asked(
    settings: Settings, tmp_path: Path
) -> None:
    scan(settings)
    opened: list[str] = []
    scan_plugins(settings, lambda done, count, path: opened.append(path.name), deadlines=PATIENT)
    assert opened == []
    build_plugin(tmp_path / "new", "Late", delay_frames=480, reported_frames=480)
    (tmp_path / "vst3" / "Late.vst3").rename(tmp_path / "old.vst3")
    (tmp_path / "new" / "Late.vst3").rename(tmp_path / "vst3" / "Late.vst3")
    assert read_findings(settings) == ()
    assert scan(settings)["Late"].late_frames == 0
    scan_plugins(
        settings, lambda done, count, path: opened.append(path.name), is_fresh=True, deadlines=PATIENT
    )
    assert opened == ["Late.vst3"]


def test_a_broken_link_in_a_bundle_or_in_place_of_one_breaks_no_scan(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "vst3"
    (folder / "Gone.vst3").symlink_to(folder / "Nothing.vst3")
    (folder / "Loop.vst3").symlink_to(folder / "Loop.vst3")
    (folder / "Late.vst3" / "nowhere").symlink_to("nothing")
    (folder / "Late.vst3" / "itself").symlink_to("itself")
    assert sorted(scan(settings)) == ["Late"]


def test_another_size_is_another_plugin_at_the_same_time_of_change(
    settings: Settings, tmp_path: Path
) -> None:
    (module,) = (tmp_path / "vst3").glob("Late.vst3/Contents/*/Late.so")
    before = stamp_bundle(tmp_path / "vst3" / "Late.vst3")
    times = module.stat().st_atime_ns, module.stat().st_mtime_ns
    with module.open("ab") as file:
        file.write(b"more")
    os.utime(module, ns=times)
    assert stamp_bundle(tmp_path / "vst3" / "Late.vst3") != before


def test_a_preset_is_not_called_ok_whose_plugin_failed_when_it_was_scanned(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_plugin(tmp_path / "vst3", "Bad", at_load="abort")
    presets = [tmp_path / "Late.toml", tmp_path / "Bad.toml"]
    for preset in presets:
        preset.write_text(
            '[preset]\nname = "Mine"\nuse = "a test"\n[[stems.vocals.effects]]\nkind = "plugin"\n'
            f'path = "{preset.stem}.vst3"\n'
        )
    assert [main(["presets", "check", str(preset)]) for preset in presets] == [0, 0]
    scan(settings)
    capsys.readouterr()
    assert [main(["presets", "check", str(preset)]) for preset in presets] == [0, 1]
    said = capsys.readouterr().err
    assert 'plugin "Bad" crashed (SIGABRT) while it was opened, when it was scanned' in said
    assert "`stembridge plugins scan --again` opens it again" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0, "findings": []}', '{"version": 1}'])
def test_a_broken_list_of_findings_is_made_anew(text: str, settings: Settings) -> None:
    settings.state_dir.mkdir(parents=True)
    (settings.state_dir / "plugins.json").write_text(text)
    assert read_findings(settings) == ()
    assert "Late" in scan(settings)


def test_a_plugin_is_found_by_its_name_its_file_and_its_path(settings: Settings, tmp_path: Path) -> None:
    bundle = tmp_path / "vst3" / "Late.vst3"
    for name in ("Late", "Late.vst3", str(bundle)):
        assert find_plugin(name, settings) == (bundle, "")
    (tmp_path / "vst3" / "two").mkdir()
    pair = build_plugin(tmp_path / "vst3" / "two", "Pair", classes=2)
    twin = build_plugin(tmp_path / "vst3" / "three", "Late")
    scan(settings)
    assert find_plugin("pair two", settings) == (pair, "Pair Two")
    with pytest.raises(RequestError, match="2 plugins are named Late") as caught:
        find_plugin("Late", settings)
    assert str(twin) in caught.value.hint
    with pytest.raises(PluginError, match="is not on this machine"):
        find_plugin("Nonesuch", settings)


def test_the_commands_scan_list_and_show(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "list"]) == 0
    shown = capsys.readouterr().out
    assert "no plugin is known" in shown and str(tmp_path / "vst3") in shown
    assert "1 not scanned yet; `stembridge plugins scan` opens them" in shown
    assert main(["plugins", "scan"]) == 0
    said = capsys.readouterr()
    assert said.err == "1 of 1: Late.vst3\n"
    assert "Late: Stembridge, VST3" in said.out
    assert 'latency 480 frames, 20 frames late beyond that (latency = "auto" moves it)' in said.out
    assert main(["plugins", "list"]) == 0
    assert capsys.readouterr().out == said.out
    assert main(["plugins", "list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["name"], entry["late_frames"]) == ("Late", 20)
    assert main(["plugins", "show", "Nonesuch"]) == 1
    assert "is not on this machine" in capsys.readouterr().err


def test_what_show_prints_can_be_pasted_into_a_preset(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "show", "Late"]) == 0
    shown = capsys.readouterr().out
    assert "gain     1.000000  1.000  (0.000 to 1.000)" in shown
    (effect,) = tomllib.loads(shown[shown.index("[[stems") :])["stems"]["vocals"]["effects"]
    values = {"gain": 1.0, "fault": 0.0, "trigger": 0.0}
    assert effect == {"kind": "plugin", "path": "Late.vst3", "parameters": values}
    make_opener(settings, [])(PluginEffect(effect["path"], parameters=values), 48_000, 2).close()


def test_show_translates_what_a_plugin_shows_into_raw_values(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "late.state"
    assert main(["plugins", "show", "Late", "--set", "gain=0.1254"]) == 0
    assert "gain = 0.125" in capsys.readouterr().out
    assert main(["plugins", "show", "Late", "--set", "gain=0.25", "--state", str(state)]) == 0
    with closing(
        make_opener(settings, [])(PluginEffect("Late.vst3", state=state.read_bytes()), 48_000, 1)
    ) as late:
        assert late.process(np.ones((1, 16_384), np.float32)).max() == 0.25
    for text, said in (
        ("gain=2", 'plugin "Late" shows gain = 2 for no value (it goes from 0.000 to 1.000)'),
        ("gian=1", "has no parameter gian (did you mean gain?)"),
        ("gain", "--set 'gain' is no value (as in threshold_db=-20)"),
    ):
        assert main(["plugins", "show", "Late", "--set", text]) != 0
        assert said in capsys.readouterr().err


def test_a_plugin_that_fails_is_shown_without_advice_on_a_preset(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_plugin(tmp_path / "vst3", "Bad", at_load="abort")
    assert main(["plugins", "show", "Bad"]) == 1
    said = capsys.readouterr().err
    assert "crashed (SIGABRT)" in said and "or do without it" in said and "preset" not in said


def test_show_saves_a_state_that_a_preset_restores(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "show", "Late", "--state", "late.state"]) == 0
    shown = capsys.readouterr().out
    (effect,) = tomllib.loads(shown[shown.index("[[stems") :])["stems"]["vocals"]["effects"]
    assert effect == {"kind": "plugin", "path": "Late.vst3", "state_file": "late.state"}
    state = (tmp_path / "late.state").read_bytes()
    make_opener(settings, [])(PluginEffect("Late.vst3", state=state), 48_000, 2).close()
    assert main(["plugins", "show", "Late", "--state", "late.state"]) == 73
    assert "late.state exists" in capsys.readouterr().err
    assert (tmp_path / "late.state").read_bytes() == state


def vstpreset(gain: float) -> bytes:
    """Return the fixture's state as a preset file: header, the component's chunk, the list of chunks."""
    state = struct.pack("<3d", gain, 0.0, 0.0)
    header = struct.pack("<4si32sq", b"VST3", 1, b"stembridge-fixtu".hex().upper().encode(), 48 + len(state))
    return header + state + struct.pack("<4si4sqq", b"List", 1, b"Comp", 48, len(state))


def test_show_takes_the_values_of_a_vstpreset(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "quiet.vstpreset"
    preset.write_bytes(vstpreset(0.25))
    assert main(["plugins", "show", "Late", "--vstpreset", str(preset)]) == 0
    assert "gain = 0.25  # 0.250\n" in capsys.readouterr().out
    preset.write_bytes(b"no preset")
    assert main(["plugins", "show", "Late", "--vstpreset", str(preset)]) == 1
    assert 'plugin "Late" failed while it loaded quiet.vstpreset' in capsys.readouterr().err
