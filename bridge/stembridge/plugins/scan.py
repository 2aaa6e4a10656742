"""What each plugin on this machine is and does, found by opening it once; kept until its file changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError, RequestError
from stembridge.plugins.folders import find_bundles, resolve, walk_bundle
from stembridge.plugins.hosted import check_name, probe_plugin
from stembridge.plugins.process import USUAL, Deadlines, Description, Parameter, PluginProcess
from stembridge.settings import Settings

VERSION = 1
"""Of the file that the findings are kept in; another one is scanned anew."""
SAMPLE_RATE = 48_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One plugin, or a bundle that could not be opened.

    Parameters
    ----------
    path : the bundle
    stamp : newest change and size of its files; another stamp is another plugin
    name : of the plugin; of the file where it could not be opened
    maker, kind, category, version : what it says of itself
    stereo, mono : how it takes two channels and one, a layout of `stembridge.plugins.child.Instances`
    reported_frames, late_frames : its latency as it says, and how late it is beyond that, in stereo at 48 kHz
    reason : why it cannot be used; '' when it can
    """

    path: str
    stamp: str
    name: str
    maker: str = ""
    kind: str = ""
    category: str = ""
    version: str = ""
    stereo: str = ""
    mono: str = ""
    reported_frames: int = 0
    late_frames: int = 0
    reason: str = ""


def read_findings(settings: Settings) -> tuple[Finding, ...]:
    """Return what was found of the plugins that are still here as they were; () before the first scan."""
    try:
        kept = json.loads(_findings_file(settings).read_text("utf-8"))
        findings = [Finding(**entry) for entry in kept["findings"]] if kept["version"] == VERSION else []
    except (OSError, ValueError, TypeError, KeyError):
        return ()
    stamps = {str(path): stamp_bundle(path) for path in find_bundles(settings)}
    return tuple(found for found in findings if stamps.get(found.path) == found.stamp)


def scan_plugins(
    settings: Settings,
    report: Callable[[int, int, Path], None],
    *,
    is_fresh: bool = False,
    deadlines: Deadlines = USUAL,
) -> tuple[Finding, ...]:
    """Open every plugin that was not scanned yet, and return and keep what is known of all of them.

    Parameters
    ----------
    settings : says where plugins are, and where the findings are kept
    report : told how many are done, of how many, and which comes now
    is_fresh : also open those that were scanned before
    deadlines : what a plugin may take
    """
    bundles = find_bundles(settings)
    known: dict[str, list[Finding]] = {}
    for found in () if is_fresh else read_findings(settings):
        known.setdefault(found.path, []).append(found)
    todo = [path for path in bundles if str(path) not in known]
    for done, path in enumerate(todo):
        report(done, len(todo), path)
        known[str(path)] = _scan(path, deadlines)
        _keep(settings, [found for path in bundles for found in known.get(str(path), ())])
    return tuple(found for path in bundles for found in known[str(path)])


def find_plugin(name: str, settings: Settings) -> tuple[Path, str]:
    """Return bundle and plugin ('' when alone) for a file's name or path, or the name of a scanned plugin.

    Raises
    ------
    PluginError
        There is none, or it is not in an allowed folder.
    RequestError
        Several plugins have that name.
    """
    found = [one for one in read_findings(settings) if one.name.casefold() == name.casefold()]
    if len(found) > 1:
        raise RequestError(
            f"{len(found)} plugins are named {name}", f"give a path: {', '.join(one.path for one in found)}"
        )
    if found:
        is_alone = [one.path for one in read_findings(settings)].count(found[0].path) == 1
        return resolve(found[0].path, settings), "" if is_alone else found[0].name
    try:
        return resolve(name, settings), ""
    except PluginError:
        if Path(name).suffix:
            raise
        return resolve(f"{name}.vst3", settings), ""


def find_reason(path: Path, plugin: str, settings: Settings) -> str:
    """Return why a plugin could not be used when it was scanned; '' where it could, or was not scanned.

    Parameters
    ----------
    path : the bundle, as `stembridge.plugins.folders.resolve` gives it
    plugin : which of several in it; '' where it is alone
    """
    reasons = (
        found.reason
        for found in read_findings(settings)
        if Path(found.path).resolve() == path and found.name in (plugin or found.name, path.stem)
    )
    return next(filter(None, reasons), "")


@dataclass(frozen=True, slots=True)
class Inspection:
    """One plugin, looked at: what it says, its parameters, and its state."""

    description: Description
    parameters: tuple[Parameter, ...]
    state: bytes


def inspect_plugin(
    path: Path,
    plugin: str = "",
    preset: Path | None = None,
    texts: Mapping[str, str] | None = None,
    deadlines: Deadlines = USUAL,
) -> Inspection:
    """Return what a plugin can be set to, and its values.

    Parameters
    ----------
    path, plugin : the bundle, and which of several in it
    preset : a .vstpreset that gives it values
    texts : what parameters are to show, by name, over that

    Raises
    ------
    PluginError
        A fault of the plugin, an unknown parameter, or a text that it shows for no value.
    """
    with closing(PluginProcess(path, deadlines)) as process:
        description = process.open(plugin)
        process.apply(b"", {})
        if preset is not None:
            process.load_preset(preset)
        if texts:
            process.apply(b"", _find_raw_values(process, texts))
        return Inspection(description, process.list_parameters(), process.read_state())


def _find_raw_values(process: PluginProcess, texts: Mapping[str, str]) -> dict[str, float]:
    known = {one.name: one for one in process.list_parameters()}
    found = {}
    for name, text in texts.items():
        check_name(process.name, name, list(known))
        raw = process.find_raw_value(name, text)
        if raw is None:
            raise PluginError(
                f'plugin "{process.name}" shows {name} = {text} for no value',
                f"it goes from {known[name].low_text} to {known[name].high_text}",
            )
        found[name] = raw
    return found


def _scan(path: Path, deadlines: Deadlines) -> list[Finding]:
    """Return one finding per plugin of a bundle."""
    stamp = stamp_bundle(path)
    try:
        with closing(PluginProcess(path, deadlines)) as process:
            names = process.list_names()
    except PluginError as error:
        return [Finding(str(path), stamp, path.stem, reason=error.message)]
    return [_scan_one(path, stamp, name, deadlines) for name in (names if len(names) > 1 else ("",))]


def _scan_one(path: Path, stamp: str, plugin: str, deadlines: Deadlines) -> Finding:
    effect = PluginEffect(str(path), plugin)
    try:
        with closing(PluginProcess(path, deadlines)) as process:
            said = process.open(plugin)
        stereo = probe_plugin(effect, path, SAMPLE_RATE, 2, deadlines)
        mono = probe_plugin(effect, path, SAMPLE_RATE, 1, deadlines)
    except PluginError as error:
        return Finding(str(path), stamp, plugin or path.stem, reason=error.message)
    return Finding(
        path=str(path),
        stamp=stamp,
        name=said.name,
        maker=said.maker,
        kind=said.kind,
        category=said.category,
        version=said.version,
        stereo=stereo.layout,
        mono=mono.layout,
        reported_frames=stereo.reported_frames,
        late_frames=stereo.late_frames,
    )


def stamp_bundle(path: Path) -> str:
    """Return what changes with every change of a bundle's files: the newest change, and the size of all."""
    stats = [part.stat() for part in walk_bundle(path) if part.exists()]
    return f"{max(stat.st_mtime_ns for stat in stats)}-{sum(stat.st_size for stat in stats)}"


def _findings_file(settings: Settings) -> Path:
    return settings.state_dir / "plugins.json"


def _keep(settings: Settings, findings: list[Finding]) -> None:
    path = _findings_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    text = json.dumps({"version": VERSION, "findings": [asdict(found) for found in findings]}, indent=1)
    new.write_text(text, encoding="utf-8")
    new.replace(path)
