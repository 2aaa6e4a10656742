"""ReaPack's indexer takes this repository: its rules (reapack-index 1.2.6), worked out anew over all files.

The indexer is Ruby and looks at every file outside the root whose ending it knows; what is no package of ours
has to be ignored by `.reapack-index.conf` or say `@noindex`.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

import stembridge
from stembridge.reaper.actions import ACTIONS, LOOP, file_stem

REPOSITORY = Path(__file__).parents[2]
CONFIGURATION = ".reapack-index.conf"
PACKAGE = "reaper_scripts/stembridge.lua"

ENDINGS = {
    "script": ("lua", "eel", "py"),
    "extension": ("ext",),
    "effect": ("jsfx",),
    "data": ("data",),
    "theme": ("theme",),
    "langpack": ("reaperlangpack",),
    "webinterface": ("www",),
    "projecttpl": ("rpp",),
    "tracktpl": ("rtracktemplate",),
    "midinotenames": ("txt",),
    "autoitem": ("reaperautoitem",),
    "keymap": ("reaperkeymap",),
}
"""Kinds of packages, by the endings of their files."""
SINGLE_LINE = {"version", "description", "author"}
TAGS = SINGLE_LINE | {"about", "donation", "link", "screenshot", "changelog", "provides"}
FLAGS = {"noindex", "metapackage"}
PLATFORMS = {
    "all", "windows", "win32", "win64", "windows-arm64ec", "darwin", "darwin32", "darwin64", "darwin-arm64",
    "linux", "linux32", "linux64", "linux-armv7l", "linux-aarch64",
}  # fmt: skip
MAX_SEGMENT = 65_535

Files = Mapping[str, str]
"""Content by path, which is relative to the repository, with forward slashes."""


def kind_of(path: str) -> str | None:
    """Return the kind of package that a path may be; files in the root have no category and are none."""
    if "/" not in path:
        return None
    ending = PurePosixPath(path).suffix[1:].lower()
    return next((kind for kind, endings in ENDINGS.items() if ending in endings), None)


def read_options(text: str) -> tuple[set[str], list[str]]:
    """Return flags and ignored folders of a configuration, whose words are a shell's."""
    words = shlex.split(text)
    ignored = [words[at + 1] for at, word in enumerate(words) if word == "--ignore"]
    return {word for word in words if word.startswith("--")}, ignored


def read_tags(text: str) -> dict[str, str]:
    """Return the tags of a file's head: down to the first line that is empty outside of a tag.

    A tag is `@name value`, or `name: value` in any comment line; lines below it that stand further to the
    right belong to it.
    """
    tags: dict[str, str] = {}
    name = prefix = indent = ""
    for line in text.splitlines():
        rest = line[len(prefix) :] if name and line.startswith(prefix) else None
        if rest is not None and rest.startswith(indent or (" ", "\t")) and rest.strip():
            indent = indent or rest[: len(rest) - len(rest.lstrip())]
            tags[name] = f"{tags[name]}\n{rest[len(indent) :]}".lstrip("\n")
            continue
        if name and line.strip() and line.rstrip() == prefix.rstrip():
            continue
        if not line.strip():
            break
        name = indent = ""
        found = re.match(r"(?P<prefix>.*?)(?:@(?P<at>\w+)|(?P<plain>\w[\w\s]*?)\s*:)\s*(?P<value>.*)$", line)
        if found and (found["at"] or found["value"]):
            name = (found["at"] or found["plain"]).lower().replace(" ", "_")
            prefix = found["prefix"]
            tags.setdefault(name, found["value"].strip())
    return tags


@dataclass(frozen=True, slots=True)
class Provided:
    """One line of `@provides`."""

    pattern: str
    options: tuple[str, ...]
    target: str


def read_provides(text: str) -> Iterator[Provided]:
    for line in filter(None, map(str.strip, text.splitlines())):
        found = re.fullmatch(
            r"(?:\[(?P<options>[^\]]*)\])?\s*(?P<pattern>.+?)(?:\s*>\s*(?P<target>.+))?", line
        )
        assert found
        yield Provided(
            found["pattern"], tuple((found["options"] or "").lower().split()), found["target"] or ""
        )


def matches(path: str, pattern: str) -> bool:
    """Tell whether a pattern matches a path; a star matches no slash."""
    parts = PurePosixPath(path).parts
    return len(parts) == len(PurePosixPath(pattern).parts) and PurePosixPath(path).match(pattern)


def check(files: Files) -> tuple[dict[str, set[str]], list[str]]:
    """Return what each package provides, by its path, and a line for each rule that is broken."""
    flags, ignored = read_options(files.get(CONFIGURATION, ""))
    provided: dict[str, set[str]] = {}
    faults: list[str] = []
    owners: dict[str, str] = {}
    for path, text in sorted(files.items()):
        if kind_of(path) is None or any(path.startswith(f"{folder}/") for folder in ignored):
            continue
        tags = read_tags(text)
        if "noindex" in tags:
            continue
        faults += [f"{path}: {fault}" for fault in _check_tags(tags, is_strict="--strict" in flags)]
        provided[path] = set() if "metapackage" in tags else {path}
        for each in read_provides(tags.get("provides", "")):
            faults += [
                f"{path}: unknown option {option}" for option in each.options if not _is_option(option)
            ]
            base = PurePosixPath(path).parent
            pattern = path if each.pattern == "." else os.path.normpath(base / each.pattern)
            found = {name for name in files if matches(name, pattern)}
            if not found:
                faults.append(f"{path}: nothing is {each.pattern}")
            for name in sorted(found):
                target = os.path.normpath(base / each.target) if each.target else name
                if target in owners:
                    faults.append(f"{path}: {target} is provided by {owners[target]} too")
                owners[target] = path
            provided[path] |= found
    return provided, faults


def _check_tags(tags: Mapping[str, str], *, is_strict: bool) -> Iterator[str]:
    for name, value in tags.items():
        if name not in TAGS | FLAGS:
            if is_strict:
                yield f"unknown tag {name}"
        elif name in FLAGS:
            if value:
                yield f"{name} takes no value"
        elif not value:
            yield f"{name} has no value"
        elif name in SINGLE_LINE and "\n" in value:
            yield f"{name} has several lines"
    version = tags.get("version", "")
    if not version:
        yield "version is missing"
    elif not version[0].isdigit():
        yield f"version {version} does not begin with a digit"
    elif any(int(segment) > MAX_SEGMENT for segment in re.findall("[0-9]+", version)):
        yield f"a number of version {version} is above {MAX_SEGMENT}"


def _is_option(option: str) -> bool:
    kinds = {*ENDINGS, *(ending for endings in ENDINGS.values() for ending in endings)}
    return (
        option in PLATFORMS | kinds | {"main", "nomain"} or re.fullmatch(r"main=[\w,]+", option) is not None
    )


def read_repository() -> dict[str, str]:
    """Return every file that the indexer would look into, and its configuration, but for hidden folders."""
    files = {CONFIGURATION: (REPOSITORY / CONFIGURATION).read_text("utf-8")}
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name).relative_to(REPOSITORY).as_posix()
            if kind_of(path) is not None:
                files[path] = (REPOSITORY / path).read_text("utf-8", errors="replace")
    return files


@pytest.fixture(scope="module")
def repository() -> dict[str, str]:
    return read_repository()


def test_the_repository_is_one_package_without_a_fault(repository: Files) -> None:
    provided, faults = check(repository)
    assert faults == []
    assert set(provided) == {PACKAGE}


def test_the_package_brings_every_lua_file_and_nothing_of_python(repository: Files) -> None:
    provided, _ = check(repository)
    scripts = {path for path in repository if path.startswith("reaper_scripts/")}
    assert provided[PACKAGE] == {path for path in scripts if path.endswith(".lua")}
    actions = {path for path in provided[PACKAGE] if path.startswith("reaper_scripts/actions/")}
    assert actions == {f"reaper_scripts/actions/{name}.lua" for name in [*map(file_stem, ACTIONS), LOOP]}


def test_actions_are_listed_and_the_library_is_not(repository: Files) -> None:
    options = {
        each.pattern: each.options for each in read_provides(read_tags(repository[PACKAGE])["provides"])
    }
    assert options == {"actions/*.lua": ("main",), "lib/*.lua": ("nomain",)}


def test_the_package_has_the_version_of_the_project(repository: Files) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert read_tags(repository[PACKAGE])["version"] == project["version"] == stembridge.__version__


def test_the_package_says_what_it_is_by_whom_and_what_else_it_needs(repository: Files) -> None:
    tags = read_tags(repository[PACKAGE])
    assert tags["author"] == "Stembridge developers" and tags["description"].startswith("Stembridge")
    assert "`stembridge reaper install`" in tags["about"] and "pip" in tags["about"]
    assert set(tags) == {"description", "author", "version", "about", "changelog", "provides"}


def test_without_its_configuration_the_repository_would_be_full_of_packages(repository: Files) -> None:
    """The walk sees what it looks for: our own modules are scripts to ReaPack."""
    _, faults = check({**repository, CONFIGURATION: "--strict"})
    for path in ("bridge/stembridge/cli/reaper.py", "tests/reaper/test_reapack.py"):
        assert f"{path}: version is missing" in faults
    flags, _ = read_options(repository[CONFIGURATION])
    assert flags == {"--name", "--strict", "--ignore"}


HEAD = """\
-- @description A thing
-- @author Somebody
-- @version 1.2.3
-- @about
--   # Title
--
--   First: a colon in a text.
-- @provides
--   [main] actions/*.lua
--   [nomain linux] lib/a b.lua > lib/c.lua
"""
GOOD = {
    CONFIGURATION: "--strict\n--ignore tests\n",
    "setup.py": "",
    "tests/x.py": "",
    "docs/x.md": "",
    "Category/thing.lua": HEAD,
    "Category/actions/one.lua": "-- @noindex\n-- Some: words",
    "Category/lib/a b.lua": "--[[\n  @noindex\n]]",
}


def test_a_sound_repository_has_no_fault() -> None:
    provided, faults = check(GOOD)
    assert faults == []
    assert provided == {
        "Category/thing.lua": {"Category/thing.lua", "Category/actions/one.lua", "Category/lib/a b.lua"}
    }
    tags = read_tags(HEAD)
    assert tags["about"] == "# Title\nFirst: a colon in a text."
    assert tags["provides"] == "[main] actions/*.lua\n[nomain linux] lib/a b.lua > lib/c.lua"


def change(path: str, old: str, new: str) -> dict[str, str]:
    assert old in GOOD[path]
    return {**GOOD, path: GOOD[path].replace(old, new)}


THING = "Category/thing.lua"
BROKEN = {
    "no version": (change(THING, "@version 1.2.3", "@noversion"), "version is missing"),
    "a version that is a word": (change(THING, "1.2.3", "v1"), "version v1 does not begin with a digit"),
    "a version too high": (change(THING, "1.2.3", "1.65536"), "a number of version 1.65536 is above 65535"),
    "an unknown tag": (change(THING, "@author", "@writer"), "unknown tag writer"),
    "a tag by a colon": (change(THING, "-- @author", "-- Note: x\n-- @author"), "unknown tag note"),
    "a tag without value": (change(THING, "@author Somebody", "@author"), "author has no value"),
    "a tag of two lines": (change(THING, "A thing", "A thing\n--   indeed"), "description has several lines"),
    "a flag with a value": (
        change(THING, "@author", "@metapackage yes\n-- @author"),
        "metapackage takes no value",
    ),
    "a pattern for nothing": (change(THING, "actions/*.lua", "actions/*.eel"), "nothing is actions/*.eel"),
    "a star over a slash": (change(THING, "actions/*.lua", "*one.lua"), "nothing is *one.lua"),
    "an option that is none": (change(THING, "[main]", "[primary]"), "unknown option primary"),
    "a file provided twice": (
        change(THING, "[main] actions/*.lua", "[main] actions/*.lua\n--   actions/one.lua"),
        "Category/actions/one.lua is provided by Category/thing.lua too",
    ),
    "a file of two packages": (
        {**GOOD, "Category/other.lua": "-- @version 1\n-- @provides actions/one.lua"},
        "Category/actions/one.lua is provided by Category/other.lua too",
    ),
    "a file that is not hidden": (change("Category/actions/one.lua", "@noindex", ""), "version is missing"),
    "a text in a folder": ({**GOOD, "docs/notes.txt": "notes"}, "version is missing"),
    "a folder that is not ignored": (change(CONFIGURATION, "--ignore tests", ""), "version is missing"),
    "an ignored folder of a longer name": ({**GOOD, "tests2/x.py": ""}, "version is missing"),
}


@pytest.mark.parametrize(("files", "fault"), BROKEN.values(), ids=BROKEN)
def test_each_rule_can_fail(files: Files, fault: str) -> None:
    assert any(line.endswith(f": {fault}") for line in check(files)[1])
