"""After `stembridge reaper install` REAPER lists one language's actions; after `uninstall` all is as before.

What REAPER does at its start is done by Lua: `__startup.lua` is run as a whole, against a `reaper` table that
has the functions which the scripts need and no other.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lupa import lua54  # type: ignore[import-untyped]

import stembridge
from stembridge.cli import main
from stembridge.cli.reaper import _tell_home
from stembridge.errors import OutputError, RequestError
from stembridge.reaper.actions import ACTIONS, LOOP, file_stem
from stembridge.reaper.install import (
    CONFIG_NAME,
    LANGUAGES,
    find_cli,
    find_resource,
    find_scripts,
    install,
    resource_places,
    uninstall,
)
from stembridge.settings import Settings, load_settings
from test_imports import HEAVY, modules_after

REPOSITORY = Path(__file__).parents[2]
TITLES = ("Split, choosing stems", "Jobs")
CLI = Path("/some where/bin/stembridge")


class FakeReaper:
    """As much of REAPER as registering actions takes; it keeps what it would keep in its own files."""

    def __init__(self, resource: Path) -> None:
        self.resource = resource
        self.actions: set[str] = set()
        self.states: dict[tuple[str, str], str] = {}
        self.has_python = True
        self.calls = 0
        self.uncommitted = False
        self.messages: list[str] = []
        self.ran: list[str] = []
        self._listed: dict[str, list[str]] = {}

    def start(self) -> None:
        """Run the start-up script, as REAPER does."""
        path = self.resource / "Scripts" / "__startup.lua"
        if path.exists():
            self.run(path)

    def run(self, path: Path, **more: Any) -> None:
        lua = lua54.LuaRuntime(unpack_returned_tuples=True)
        lua.globals().reaper = lua.eval(
            "function(known) return setmetatable({}, {__index = function(_, name)"
            " return known[name] or error('reaper.' .. name .. ' does not exist', 2) end}) end"
        )(lua.table_from(self._functions(path) | more))
        lua.execute("gfx = {init = function() end, quit = function() end}")
        for name, value in more.items():
            if name.startswith("gfx_"):
                lua.globals().gfx[name.removeprefix("gfx_")] = value
        lua.globals().dofile(str(path))
        assert not self.uncommitted

    def _functions(self, path: Path) -> dict[str, Callable[..., Any]]:
        return {
            "GetResourcePath": lambda: str(self.resource),
            "file_exists": lambda name: Path(name).is_file(),
            "get_action_context": lambda: (True, str(path), 0, 0, 0, 0, 0.0, ""),
            "EnumerateFiles": self._enumerate,
            "AddRemoveReaScript": self._add_or_remove,
            "GetExtState": lambda section, key: self.states.get((section, key), ""),
            "SetExtState": self._set_state,
            "ShowConsoleMsg": self.messages.append,
            "MB": self._show,
            "Main_OnCommandEx": lambda command, flag, project: self.ran.append(
                sorted(self.actions)[command - 1]
            ),
        }

    def _enumerate(self, folder: str, index: int) -> str | None:
        if index == -1:
            self._listed.pop(folder, None)
            return None
        if folder not in self._listed:
            found = Path(folder)
            self._listed[folder] = [p.name for p in found.iterdir() if p.is_file()] if found.is_dir() else []
        names = self._listed[folder]
        return names[index] if index < len(names) else None

    def _add_or_remove(self, add: bool, section: int, path: str, commit: bool) -> int:
        assert section == 0 and isinstance(commit, bool)
        self.calls += 1
        self.uncommitted = not commit
        if not add:
            is_known = path in self.actions
            self.actions.discard(path)
            return int(is_known)
        if not Path(path).is_file() or (path.endswith(".py") and not self.has_python):
            return 0
        self.actions.add(path)
        return sorted(self.actions).index(path) + 1

    def _show(self, text: str, title: str, kind: int) -> int:
        assert (title, kind) == ("Stembridge", 0)
        self.messages.append(text)
        return 1

    def _set_state(self, section: str, key: str, value: str, is_kept: bool) -> None:
        assert is_kept and "\n" not in value
        self.states[section, key] = value

    @property
    def shown(self) -> list[str]:
        """The names in the action list."""
        return sorted(Path(path).name for path in self.actions)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Two actions in both languages, and the real library's way to register them."""
    folder = tmp_path / "source"
    for title in TITLES:
        for language in LANGUAGES:
            write(folder / "actions" / f"stembridge_{title}.{language}", f"{title} in {language}")
    write(folder / "actions" / "notes.txt", "no script")
    write(folder / "lib" / "stembridge_run.py", "runtime = 1")
    write(folder / "lib" / "__pycache__" / "stembridge_run.cpython-311.pyc", "")
    shutil.copy(REPOSITORY / "reaper_scripts" / "lib" / "register.lua", folder / "lib")
    return folder


@pytest.fixture
def resource(tmp_path: Path) -> Path:
    folder = tmp_path / "REAPER config"
    write(folder / "reaper.ini", "[reaper]\n")
    write(folder / "Scripts" / "Someone Else" / "x.lua", "mine")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "hömé", environ={})


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(
    resource: Path, settings: Settings, scripts: Path, language: str = "lua", cli: Path = CLI
) -> list[str]:
    return install(resource, settings, language=language, cli=cli, scripts=scripts)


def shown(language: str, titles: tuple[str, ...] = TITLES) -> list[str]:
    return sorted(f"stembridge_{title}.{language}" for title in titles)


@pytest.mark.parametrize("language", LANGUAGES)
def test_after_an_installation_the_action_list_has_each_action_once(
    resource: Path, settings: Settings, scripts: Path, language: str
) -> None:
    told = put(resource, settings, scripts, language)
    root = resource / "Scripts" / "Stembridge"
    assert sorted(path.name for path in (root / "actions").iterdir()) == shown(language)
    assert sorted(path.name for path in (root / "lib").iterdir()) == ["register.lua", "stembridge_run.py"]
    assert any(
        f"2 {'Lua' if language == 'lua' else 'Python'} actions are in '{root}'" in line for line in told
    )
    reaper = FakeReaper(resource)
    reaper.start()
    assert reaper.shown == shown(language) and not reaper.messages


def test_the_configuration_names_absolute_places(resource: Path, settings: Settings, scripts: Path) -> None:
    put(resource, settings, scripts)
    text = (resource / "Scripts" / "Stembridge" / CONFIG_NAME).read_text("utf-8")
    assert json.loads(text) == {
        "cli": str(CLI),
        "connection_file": str(settings.connection_file),
        "work_dir": str(settings.state_dir / "reaper"),
        "version": stembridge.__version__,
    }


def test_a_later_start_registers_nothing_and_a_second_installation_changes_nothing(
    resource: Path, settings: Settings, scripts: Path
) -> None:
    put(resource, settings, scripts)
    reaper = FakeReaper(resource)
    reaper.start()
    calls, tree = reaper.calls, read_tree(resource)
    times = {path: path.stat().st_mtime_ns for path in resource.rglob("*")}
    assert put(resource, settings, scripts)[1:] == []
    reaper.start()
    assert reaper.calls == calls and read_tree(resource) == tree
    assert {path: path.stat().st_mtime_ns for path in resource.rglob("*")} == times


@pytest.mark.parametrize("forgets", [False, True])
def test_the_other_language_takes_the_place_of_the_first(
    resource: Path, settings: Settings, scripts: Path, forgets: bool
) -> None:
    reaper = FakeReaper(resource)
    for language in ("lua", "py", "lua"):
        put(resource, settings, scripts, language)
        if forgets:
            reaper.states.clear()
        reaper.start()
        assert reaper.shown == shown(language)
        names = [path.name for path in (resource / "Scripts" / "Stembridge" / "actions").iterdir()]
        assert sorted(names) == shown(language)


def test_an_action_that_a_newer_version_renames_is_not_listed_twice(
    resource: Path, settings: Settings, scripts: Path
) -> None:
    reaper = FakeReaper(resource)
    put(resource, settings, scripts)
    reaper.start()
    (scripts / "actions" / "stembridge_Jobs.lua").rename(scripts / "actions" / "stembridge_Show jobs.lua")
    put(resource, settings, scripts)
    reaper.start()
    assert reaper.shown == shown("lua", (TITLES[0], "Show jobs"))


def test_a_new_version_registers_anew(
    resource: Path, settings: Settings, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reaper = FakeReaper(resource)
    put(resource, settings, scripts)
    reaper.start()
    reaper.actions.clear()
    monkeypatch.setattr("stembridge.reaper.install.__version__", "9.9")
    put(resource, settings, scripts)
    reaper.start()
    assert reaper.shown == shown("lua")


def test_python_actions_that_reaper_refuses_are_tried_again_at_the_next_start(
    resource: Path, settings: Settings, scripts: Path
) -> None:
    put(resource, settings, scripts, "py")
    reaper = FakeReaper(resource)
    reaper.has_python = False
    reaper.start()
    assert reaper.shown == [] and "did not take 2 of 2 actions" in reaper.messages[0]
    reaper.has_python = True
    reaper.start()
    assert reaper.shown == shown("py") and len(reaper.messages) == 1


def test_run_by_hand_it_registers_anew_and_says_so(resource: Path, settings: Settings, scripts: Path) -> None:
    put(resource, settings, scripts)
    reaper = FakeReaper(resource)
    register = resource / "Scripts" / "Stembridge" / "lib" / "register.lua"
    for _ in range(2):
        reaper.actions.clear()
        reaper.run(register)
        assert reaper.shown == shown("lua")
    assert reaper.messages == ['2 actions are in the action list: type "stembridge" there.'] * 2


STARTUPS = {
    "none": None,
    "code": b"log = (log or 0) + 1\n",
    "no newline at the end": b"log = 1\n-- stembridge is great",
    "windows": b"log = 1\r\nlocal x = 2\r\n",
    "a return at the end": b"log = 1\nreturn log\n",
    "a mark of the byte order": b"\xef\xbb\xbflog = 1\n",
    "an odd encoding": b"log = 1 -- \xe9\xff\n",
}


@pytest.mark.parametrize("before", STARTUPS.values(), ids=STARTUPS)
def test_uninstalling_leaves_every_byte_as_it_was(
    resource: Path, settings: Settings, scripts: Path, before: bytes | None
) -> None:
    startup = resource / "Scripts" / "__startup.lua"
    if before is not None:
        write(startup, before)
    tree, folders = read_tree(resource), sorted(resource.rglob("*"))
    for language in LANGUAGES:
        put(resource, settings, scripts, language)
        reaper = FakeReaper(resource)
        reaper.start()
        assert reaper.shown == shown(language)
        text = startup.read_bytes()
        assert text.endswith((before or b"").removeprefix(b"\xef\xbb\xbf"))
        assert text.count(b"stembridge: begin") == 1
        assert (b"\r\n" in (before or b"")) == (b"\r\n" in text) and text.count(b"\r") in (
            0,
            text.count(b"\n"),
        )
    told = uninstall(resource)
    assert told == [
        f"{str(startup)!r} held Stembridge's lines alone: it is gone"
        if before is None
        else f"Stembridge's lines are gone from {str(startup)!r}, all others stay",
        f"the scripts are gone from {str(resource / 'Scripts' / 'Stembridge')!r}",
    ]
    assert read_tree(resource) == tree and sorted(resource.rglob("*")) == folders
    assert uninstall(resource) == []


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("own", [b"", b"log = 1"])
def test_lines_that_a_user_has_put_around_ours_stay_lines(
    resource: Path, settings: Settings, scripts: Path, own: bytes, has_end: bool, newline: bytes
) -> None:
    startup = resource / "Scripts" / "__startup.lua"
    if own:
        write(startup, own + newline)
    put(resource, settings, scripts)
    above, below = b"local a = 1", b"b = a" + newline + b"c = b"
    end = newline if has_end else b""
    startup.write_bytes(above + newline + startup.read_bytes() + below + end)
    told = uninstall(resource)
    assert told[0] == f"Stembridge's lines are gone from {str(startup)!r}, all others stay"
    lines = [above, *([own] if own else []), below]
    assert startup.read_bytes() == newline.join(lines) + end
    lua = lua54.LuaRuntime()
    lua.globals().dofile(str(startup))
    assert lua.globals().c == 1


def test_a_start_up_script_that_is_a_link_stays_one_and_keeps_its_rights(
    resource: Path, settings: Settings, scripts: Path, tmp_path: Path
) -> None:
    target = write(tmp_path / "dotfiles" / "startup.lua", "x = 1\n")
    target.chmod(0o640)
    link = resource / "Scripts" / "__startup.lua"
    link.symlink_to(target)
    put(resource, settings, scripts)
    assert link.is_symlink() and target.read_text().endswith("end\nx = 1\n")
    uninstall(resource)
    assert link.is_symlink() and target.read_text() == "x = 1\n" and target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["startup.lua"]


@pytest.mark.parametrize("lost", ["begin", "end"])
def test_a_start_up_script_with_half_of_our_lines_is_left_alone(
    resource: Path, settings: Settings, scripts: Path, lost: str
) -> None:
    put(resource, settings, scripts)
    startup = resource / "Scripts" / "__startup.lua"
    lines = [line for line in startup.read_text().splitlines() if f"stembridge: {lost}" not in line]
    startup.write_text("\n".join([*lines, "mine()", "-- the end"]))
    tree = read_tree(resource)
    with pytest.raises(OutputError, match="holds only half of Stembridge's lines"):
        put(resource, settings, scripts, "py")
    with pytest.raises(OutputError, match="holds only half of Stembridge's lines"):
        uninstall(resource)
    assert read_tree(resource) == tree


def test_what_a_user_has_edited_is_kept_under_another_name(
    resource: Path, settings: Settings, scripts: Path
) -> None:
    put(resource, settings, scripts)
    root = resource / "Scripts" / "Stembridge"
    action = root / "actions" / "stembridge_Jobs.lua"
    for number, text in enumerate(("first edit", "second edit")):
        action.write_text(text)
        told = put(resource, settings, scripts)
        kept = f"stembridge_Jobs.lua.bak{'' if number == 0 else 2}"
        assert told[0] == f"{str(action)!r} was edited: kept as {kept!r}"
        assert action.read_text() == "Jobs in lua" and action.with_name(kept).read_text() == text
    reaper = FakeReaper(resource)
    reaper.start()
    assert reaper.shown == shown("lua")
    action.write_text("third edit")
    assert any("kept as 'stembridge_Jobs.lua.bak3'" in line for line in uninstall(resource))
    left = read_tree(root)
    assert left == {
        f"actions/stembridge_Jobs.lua.bak{number}": text
        for number, text in (("", b"first edit"), (2, b"second edit"), (3, b"third edit"))
    }


def test_files_that_are_not_ours_stay_but_no_stray_action_does(
    resource: Path, settings: Settings, scripts: Path
) -> None:
    root = resource / "Scripts" / "Stembridge"
    note = write(root / "lib" / "mine.lua", "mine")
    stray = write(root / "actions" / "stembridge_Old.py", "from a copy made by hand")
    put(resource, settings, scripts)
    assert not stray.exists() and stray.with_name("stembridge_Old.py.bak").exists()
    told = uninstall(resource)
    assert told[-1] == (
        f"the scripts are gone from {str(root)!r}; what is not Stembridge's stays there: "
        f"{Path('actions/stembridge_Old.py.bak')}, {Path('lib/mine.lua')}"
    )
    assert read_tree(root) == {
        "lib/mine.lua": b"mine",
        "actions/stembridge_Old.py.bak": b"from a copy made by hand",
    }
    assert note.exists()


def test_what_python_makes_of_our_modules_goes_too(resource: Path, settings: Settings, scripts: Path) -> None:
    tree = read_tree(resource)
    put(resource, settings, scripts, "py")
    cache = resource / "Scripts" / "Stembridge" / "lib" / "__pycache__"
    write(cache / "stembridge_run.cpython-39.pyc", "")
    uninstall(resource)
    assert read_tree(resource) == tree and not cache.parent.parent.exists()


@pytest.mark.parametrize("record", [b"", b"[]", b'{"files": 3}', b'{"files": {"../../reaper.ini": "x"}}'])
def test_a_broken_record_costs_no_file(
    resource: Path, settings: Settings, scripts: Path, record: bytes
) -> None:
    put(resource, settings, scripts)
    root = resource / "Scripts" / "Stembridge"
    (root / "actions" / "stembridge_Jobs.lua").write_text("edited")
    (root / "installed.json").write_bytes(record)
    put(resource, settings, scripts, "py")
    assert (root / "actions" / "stembridge_Jobs.lua.bak").read_text() == "edited"
    assert (resource / "reaper.ini").exists()
    reaper = FakeReaper(resource)
    reaper.start()
    assert reaper.shown == shown("py")


@pytest.fixture
def package(resource: Path, scripts: Path) -> Path:
    """What ReaPack puts there: the package and its files, below the name of the repository."""
    folder = resource / "Scripts" / "Stembridge" / "reaper_scripts"
    shutil.copytree(scripts, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.txt"))
    shutil.copy(REPOSITORY / "reaper_scripts" / "stembridge.lua", folder)
    return folder


def test_scripts_from_reapack_get_their_configuration_and_no_double(
    resource: Path, settings: Settings, scripts: Path, package: Path, tmp_path: Path
) -> None:
    tree = read_tree(resource)
    package.rename(resource / "hidden")
    put(resource, settings, scripts, cli=write(tmp_path / "stembridge", ""))
    reaper = FakeReaper(resource)
    reaper.start()
    (resource / "hidden").rename(package)
    told = put(resource, settings, scripts, cli=tmp_path / "stembridge")
    assert any("ReaPack's scripts" in line and "know Stembridge now" in line for line in told)
    assert not any("update both" in line for line in told)
    assert any("run the action stembridge.lua once" in line for line in told)
    added = {name for name in read_tree(resource) if name not in tree}
    assert {Path(name).parent for name in added} == {package.relative_to(resource)}
    assert json.loads((package / CONFIG_NAME).read_text("utf-8"))["cli"] == str(tmp_path / "stembridge")
    reaper.run(package / "stembridge.lua", gfx_showmenu=lambda text: 0)
    assert reaper.actions == {str(package / "actions" / name) for name in shown("lua")}
    with pytest.raises(RequestError, match="ReaPack has installed the Lua actions"):
        put(resource, settings, scripts, "py")
    uninstall(resource)
    assert read_tree(resource) == tree


def test_scripts_from_reapack_of_another_version_are_named(
    resource: Path, settings: Settings, scripts: Path, package: Path
) -> None:
    text = (package / "stembridge.lua").read_text()
    (package / "stembridge.lua").write_text(text.replace("@version ", "@version 7."))
    assert put(resource, settings, scripts)[-1].startswith("they are of version 7.")


def test_the_package_says_what_is_missing_and_else_offers_the_actions(
    resource: Path, settings: Settings, scripts: Path, package: Path, tmp_path: Path
) -> None:
    reaper = FakeReaper(resource)
    reaper.run(package / "stembridge.lua")
    assert "is not set up yet" in reaper.messages[-1]
    assert "pip install" in reaper.messages[-1] and "stembridge reaper install" in reaper.messages[-1]
    cli = tmp_path / 'a "b" \\ c' / "stembridge"
    put(resource, settings, scripts, cli=cli)
    reaper.run(package / "stembridge.lua")
    assert f"{cli} does not exist" in reaper.messages[-1] and "pip install" in reaper.messages[-1]
    write(cli, "")
    menus: list[str] = []

    def choose(text: str) -> int:
        menus.append(text)
        return 2

    reaper.run(package / "stembridge.lua", gfx_showmenu=choose)
    assert menus == ["Jobs|Split, choosing stems"]
    assert [Path(path).name for path in reaper.ran] == ["stembridge_Split, choosing stems.lua"]
    reaper.run(package / "stembridge.lua", gfx_showmenu=lambda text: 0)
    assert len(reaper.ran) == 1


def test_reapers_folder_is_found_where_each_system_has_it() -> None:
    home = Path("/home/me")
    assert resource_places("linux", {}, home)[0] == home / ".config" / "REAPER"
    assert resource_places("darwin", {}, home)[0] == home / "Library" / "Application Support" / "REAPER"
    places = resource_places("win32", {"APPDATA": "C:/Users/me/AppData", "ProgramFiles": "C:/Programs"}, home)
    assert places[:2] == (Path("C:/Users/me/AppData/REAPER"), Path("C:/Programs/REAPER (x64)"))
    assert resource_places("win32", {}, home) == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such links")
def test_a_portable_reaper_is_found_beside_its_executable(tmp_path: Path) -> None:
    program = write(tmp_path / "portable" / "reaper", "#!/bin/sh\n")
    program.chmod(0o755)
    write(program.with_name("reaper.ini"), "")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "reaper").symlink_to(program)
    places = resource_places("linux", {"PATH": str(tmp_path / "bin")}, tmp_path)
    assert find_resource(places) == program.parent


def test_no_folder_and_several_folders_are_named_in_one_line(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("a", "b", "c")]
    with pytest.raises(RequestError, match="--resource DIR") as caught:
        find_resource(places)
    assert all(repr(str(place)) in str(caught.value) for place in places) and "\n" not in str(caught.value)
    for place in places[:2]:
        write(place / "reaper.ini", "")
    with pytest.raises(RequestError, match="several REAPERs are here") as caught:
        find_resource(places)
    assert all((repr(str(place)) in str(caught.value)) == (place != places[2]) for place in places)
    (places[0] / "reaper.ini").unlink()
    assert find_resource(places) == places[1]


def test_the_command_beside_the_interpreter_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "stembridge.exe" if os.name == "nt" else "stembridge"
    for folder in ("venv", "path"):
        write(tmp_path / folder / name, "").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_cli() == tmp_path / "venv" / name
    (tmp_path / "venv" / name).unlink()
    assert find_cli() == tmp_path / "path" / name
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="no stembridge command"):
        find_cli()


def test_the_command_line_installs_says_what_is_next_and_takes_it_away(
    home: Path, resource: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = read_tree(resource)
    assert main(["reaper", "install", "--resource", str(resource)]) == 0
    out = capsys.readouterr().out
    assert f"{len(ACTIONS)} Lua actions are in" in out and "Restart REAPER" in out
    assert f"choose {resource / 'Scripts' / 'Stembridge' / 'lib' / 'register.lua'} and run it once" in out
    assert f"Start REAPER as: STEMBRIDGE_HOME={home} reaper" in out and "Preferences" not in out
    assert (resource / "Scripts" / "Stembridge" / "lib" / "register.lua").is_file()
    assert main(["reaper", "install", "--python", "--resource", str(resource)]) == 0
    out = capsys.readouterr().out
    assert (
        f"{len(ACTIONS)} Python actions are in" in out and "Enable Python" in out and "dll directory" in out
    )
    assert main(["reaper", "uninstall", "--resource", str(resource)]) == 0
    assert read_tree(resource) == tree
    capsys.readouterr()
    assert main(["reaper", "uninstall", "--resource", str(resource)]) == 0
    assert capsys.readouterr().out == "nothing of Stembridge is there\n"


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("linux", "Start REAPER as: STEMBRIDGE_HOME='/my home' reaper"),
        ("darwin", "Start REAPER as: open -n /Applications/REAPER.app --env STEMBRIDGE_HOME='/my home'"),
        (
            "win32",
            "Set STEMBRIDGE_HOME=/my home in your account's environment variables, then start REAPER anew",
        ),
    ],
)
def test_how_reaper_gets_the_home_is_told_for_each_system(system: str, told: str) -> None:
    assert _tell_home(Path("/my home"), system) == told


def test_a_folder_that_is_not_reapers_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("install", "uninstall"):
        assert main(["reaper", command, "--resource", str(tmp_path / "x")]) == 1
        error = capsys.readouterr().err
        assert "holds no reaper.ini" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_loads_nothing_heavy() -> None:
    assert modules_after("import stembridge.cli.reaper, stembridge.stem_tag") & (HEAVY | {"zmq"}) == set()


def test_a_wheel_brings_its_own_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "stembridge"
    monkeypatch.setattr("importlib.resources.files", lambda name: package)
    with pytest.raises(RequestError, match="has no scripts for REAPER"):
        find_scripts()
    write(package / "_data" / "reaper_scripts" / "lib" / "register.lua", "")
    assert find_scripts() == package / "_data" / "reaper_scripts"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_scripts_of_this_checkout_bring_every_action_and_what_it_needs(
    resource: Path, settings: Settings, language: str
) -> None:
    scripts = find_scripts()
    assert scripts.samefile(REPOSITORY / "reaper_scripts")
    put(resource, settings, scripts, language)
    root = resource / "Scripts" / "Stembridge"
    titles = {path.name for path in (root / "actions").iterdir()}
    loop = {f"{LOOP}.lua"} if language == "lua" else set()
    assert titles == {f"{file_stem(action)}.{language}" for action in ACTIONS} | loop
    library = {path.name for path in (scripts / "lib").iterdir() if path.suffix in (".lua", ".py")}
    assert {path.name for path in (root / "lib").iterdir()} == library
