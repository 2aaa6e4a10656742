"""Which plugin files may be opened: what lies in an allowed folder, and nothing that leads out of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.errors import PluginError
from stembridge.plugins import folders
from stembridge.plugins.folders import allowed_folders, find_bundles, resolve
from stembridge.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with one folder of plugins, 'allowed', which holds Echo.vst3 and maker/Deep.vst3."""
    monkeypatch.setattr(folders, "_standard_folders", lambda: ())
    allowed = tmp_path / "allowed"
    make_bundle(allowed / "Echo.vst3")
    make_bundle(allowed / "maker" / "Deep.vst3")
    return load_settings(home=tmp_path / "home", environ={}, plugin_dirs=(allowed,))


def make_bundle(path: Path) -> Path:
    (path / "Contents").mkdir(parents=True)
    (path / "Contents" / "module.so").write_bytes(b"code")
    return path


def test_a_bundle_is_found_by_its_name_below_its_folder_and_by_its_path(
    settings: Settings, tmp_path: Path
) -> None:
    echo, deep = tmp_path / "allowed/Echo.vst3", tmp_path / "allowed/maker/Deep.vst3"
    assert resolve("Echo.vst3", settings) == resolve(str(echo), settings) == echo
    for name in ("Deep.vst3", "maker/Deep.vst3", str(deep)):
        assert resolve(name, settings) == deep
    assert find_bundles(settings) == (echo, deep)


def test_the_systems_folders_are_allowed_after_the_users_own(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={}, plugin_dirs=(tmp_path / "own",))
    allowed = allowed_folders(settings)
    assert allowed[0] == tmp_path / "own" and len(allowed) > 2
    assert all(folder.is_absolute() for folder in allowed)


def test_a_path_outside_is_refused_with_the_folders_and_the_remedy(
    settings: Settings, tmp_path: Path
) -> None:
    outside = make_bundle(tmp_path / "downloads" / "Evil.vst3")
    for name in (str(outside), "../downloads/Evil.vst3", f"{tmp_path}/allowed/../downloads/Evil.vst3"):
        with pytest.raises(PluginError, match="is not in an allowed folder") as caught:
            resolve(name, settings)
        assert str(outside) in caught.value.message and str(tmp_path / "allowed") in caught.value.message
        assert "plugin_dirs" in caught.value.hint


def test_a_link_out_of_the_folder_is_refused_wherever_it_stands(settings: Settings, tmp_path: Path) -> None:
    outside = make_bundle(tmp_path / "downloads" / "Evil.vst3")
    (tmp_path / "allowed" / "Link.vst3").symlink_to(outside)
    inner = make_bundle(tmp_path / "allowed" / "Inner.vst3")
    (inner / "Contents" / "module.so").unlink()
    (inner / "Contents" / "module.so").symlink_to(outside / "Contents" / "module.so")
    (tmp_path / "allowed" / "way").symlink_to(tmp_path / "downloads")
    for name in ("Link.vst3", "Inner.vst3", "way/Evil.vst3"):
        with pytest.raises(PluginError, match="is not in an allowed folder"):
            resolve(name, settings)
    assert [path.name for path in find_bundles(settings)] == ["Echo.vst3", "Deep.vst3"]


def test_a_way_out_over_two_links_is_refused(settings: Settings, tmp_path: Path) -> None:
    outside = make_bundle(tmp_path / "downloads" / "Evil.vst3")
    other = tmp_path / "allowed" / "resources"
    other.mkdir()
    (other / "module.so").symlink_to(outside / "Contents" / "module.so")
    (tmp_path / "allowed" / "Twice.vst3").mkdir()
    (tmp_path / "allowed" / "Twice.vst3" / "Contents").symlink_to(other)
    with pytest.raises(PluginError, match="is not in an allowed folder"):
        resolve("Twice.vst3", settings)
    assert [path.name for path in find_bundles(settings)] == ["Echo.vst3", "Deep.vst3"]


def test_links_inside_of_a_bundle_are_allowed_even_in_circles(settings: Settings, tmp_path: Path) -> None:
    echo = tmp_path / "allowed" / "Echo.vst3"
    (echo / "Current").symlink_to(echo / "Contents")
    (echo / "Contents" / "up").symlink_to(echo)
    (echo / "Contents" / "nowhere").symlink_to("nothing.so")
    (echo / "Contents" / "itself").symlink_to("itself")
    assert resolve("Echo.vst3", settings) == echo
    assert echo in find_bundles(settings)


def test_links_that_lead_nowhere_are_no_plugins_and_hide_none(settings: Settings, tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    (allowed / "Gone.vst3").symlink_to(allowed / "Nothing.vst3")
    (allowed / "Loop.vst3").symlink_to(allowed / "Loop.vst3")
    assert [path.name for path in find_bundles(settings)] == ["Echo.vst3", "Deep.vst3"]
    for name in ("Gone.vst3", "Loop.vst3"):
        with pytest.raises(PluginError, match="is not on this machine"):
            resolve(name, settings)


def test_an_allowed_folder_may_be_reached_by_a_link(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path / "allowed")
    assert resolve(str(tmp_path / "way" / "Echo.vst3"), settings) == tmp_path / "allowed" / "Echo.vst3"


@pytest.mark.parametrize("name", ["Ekho.vst3", "echo.vst3", "x" * 400 + ".vst3", "\0.vst3"])
def test_a_plugin_that_is_not_here_is_refused(name: str, settings: Settings) -> None:
    with pytest.raises(PluginError, match="is not on this machine") as caught:
        resolve(name, settings)
    assert "Echo.vst3" in caught.value.hint or "plugin_dirs" in caught.value.hint


def test_a_near_name_is_offered(settings: Settings) -> None:
    with pytest.raises(PluginError, match=r"did you mean Echo\.vst3\?"):
        resolve("Ekho.vst3", settings)


@pytest.mark.parametrize("name", ["", "song.wav", "/etc/passwd", "Echo", "Echo.vst3/Contents/module.so"])
def test_what_is_no_plugin_file_is_refused(name: str, settings: Settings) -> None:
    with pytest.raises(PluginError, match="is no plugin file"):
        resolve(name, settings)


def test_a_plugin_of_somebody_who_is_not_here_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"~nobody-of-that-name/x\.vst3.* is not on this machine"):
        resolve("~nobody-of-that-name/x.vst3", load_settings(home=tmp_path, environ={}))
