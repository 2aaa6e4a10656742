"""Which plugin files may be opened at all: those in the system's own folders and in `Settings.plugin_dirs`.

A plugin is native code with this user's rights, and a preset comes from anywhere: it may name a plugin that
was installed here, never bring one along.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stembridge.errors import PluginError
from stembridge.home_path import find_home
from stembridge.settings import Settings

SUFFIXES = (".vst3", ".component") if sys.platform == "darwin" else (".vst3",)


def allowed_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders that plugins may lie in, `Settings.plugin_dirs` first; they need not exist."""
    return tuple(dict.fromkeys((*settings.plugin_dirs, *_standard_folders())))


def find_bundles(settings: Settings) -> tuple[Path, ...]:
    """Return every plugin that may be opened, each file once, ordered by folder and name."""
    found: dict[Path, Path] = {}
    folders = allowed_folders(settings)
    for folder in folders:
        for path in sorted(_bundles_in(folder)):
            if _is_there(path) and _find_escape(path, folders) is None:
                found.setdefault(_follow(path), path)
    return tuple(found.values())


def resolve(name: str, settings: Settings) -> Path:
    """Return the bundle that ``name`` means, in an allowed folder, every link followed.

    Parameters
    ----------
    name : an absolute path, a path below one of the folders, or the file name of a bundle in any of them

    Raises
    ------
    PluginError
        No such plugin, no plugin at all, or one that is not in an allowed folder or leads out of it.
    """
    folders = allowed_folders(settings)
    if not name.lower().endswith(SUFFIXES):
        raise PluginError(
            f'plugin "{name}" is no plugin file', f"its name must end in {' or '.join(SUFFIXES)}"
        )
    path = find_home(Path(name))
    if path.is_absolute():
        candidates = [path]
    else:
        candidates = [folder / path for folder in folders]
        candidates += [found for folder in folders for found in _bundles_in(folder) if found.name == name]
    present = next((candidate for candidate in candidates if _is_there(candidate)), None)
    if present is None:
        raise PluginError(f'plugin "{name}" is not on this machine', _remedy(name, folders))
    outside = _find_escape(present, folders)
    if outside is not None:
        searched = ", ".join(map(str, folders))
        raise PluginError(
            f'plugin "{name}" is not in an allowed folder: {outside} is in none of {searched}',
            "put its folder into plugin_dirs in settings.toml, if you trust it",
        )
    return _follow(present)


def walk_bundle(path: Path) -> Iterator[Path]:
    """Yield a bundle and all that is in it, every link followed, each once; links may lead nowhere."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        target = _follow(waiting.pop())
        if target in seen:
            continue
        seen.add(target)
        yield target
        if target.is_dir():
            with suppress(OSError):
                waiting.extend(target.iterdir())


def _standard_folders() -> tuple[Path, ...]:
    """Return where the system keeps plugins: VST 3's "Plug-in locations", and Apple's for AU."""
    if sys.platform == "darwin":
        roots = (Path.home() / "Library", Path("/Library"))
        return tuple(root / "Audio/Plug-Ins" / kind for root in roots for kind in ("VST3", "Components"))
    if os.name == "nt":
        own = os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData/Local"))
        common = os.environ.get("COMMONPROGRAMFILES", r"C:\Program Files\Common Files")
        return (Path(own) / "Programs/Common/VST3", Path(common) / "VST3")
    return (Path.home() / ".vst3", Path("/usr/lib/vst3"), Path("/usr/local/lib/vst3"))


def _bundles_in(folder: Path) -> Iterator[Path]:
    """Yield the plugins below ``folder``, links to folders not followed, bundles not entered."""
    for root, names, files in os.walk(folder):
        for name in (*names, *files):
            if name.lower().endswith(SUFFIXES):
                yield Path(root) / name
        names[:] = [name for name in names if not name.lower().endswith(SUFFIXES)]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # A name that is too long, or a folder that this user may not enter.
        return False


def _find_escape(bundle: Path, folders: tuple[Path, ...]) -> Path | None:
    """Return a file of a bundle, every link followed, that lies outside of every allowed folder."""
    roots = [_follow(folder) for folder in folders]
    outside = (
        target for target in walk_bundle(bundle) if not any(target.is_relative_to(root) for root in roots)
    )
    return next(outside, None)


def _follow(path: Path) -> Path:
    """Return where ``path`` leads; links that go in a circle are left as they are."""
    return Path(os.path.realpath(path))


def _remedy(name: str, folders: tuple[Path, ...]) -> str:
    known = {path.stem: path.name for folder in folders for path in _bundles_in(folder)}
    near = difflib.get_close_matches(Path(name).stem, known, n=3)
    if near:
        return f"did you mean {' or '.join(known[stem] for stem in near)}?"
    return f"looked in {', '.join(map(str, folders))}; plugin_dirs in settings.toml adds folders"
