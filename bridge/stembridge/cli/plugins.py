"""`stembridge plugins scan | list | show`: what presets can use here, and how to write it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stembridge.errors import OutputError, RequestError
from stembridge.settings import Settings, load_settings
from stembridge.text import one_line

if TYPE_CHECKING:
    from stembridge.plugins.scan import Finding, Inspection

LAYOUTS = {
    "plain": "",
    "dual mono": "stereo as two mono instances",
    "mono on both sides": "takes stereo alone",
}
"""What is said of a plugin that does not take the channels as they are."""


@click.group("plugins")
def plugins_group() -> None:
    """Plugins: which are here, what they are, and a piece of preset for each."""


@plugins_group.command("scan")
@click.option("--again", is_flag=True, help="Also open those that were scanned before.")
def scan_command(again: bool) -> None:
    """Open every plugin in the allowed folders once, each in a process of its own, and show what they are."""
    from stembridge.plugins.scan import scan_plugins

    settings = load_settings()
    findings = scan_plugins(settings, _report, is_fresh=again)
    _print_findings(settings, findings)


@plugins_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_command(as_json: bool) -> None:
    """Show the plugins that were scanned: name, maker, channels, latency, file, or why one cannot be used."""
    from stembridge.plugins.folders import find_bundles
    from stembridge.plugins.scan import read_findings

    settings = load_settings()
    findings = read_findings(settings)
    if as_json:
        click.echo(json.dumps([asdict(found) for found in findings], indent=2))
        return
    _print_findings(settings, findings)
    unknown = len(find_bundles(settings)) - len({found.path for found in findings})
    if unknown:
        click.echo(f"{unknown} not scanned yet; `stembridge plugins scan` opens them")


@plugins_group.command("show")
@click.argument("name")
@click.option(
    "--vstpreset",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With the values of this preset, as DAWs save them.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Save the whole state into this file, for state_file.",
)
@click.option(
    "--set",
    "texts",
    metavar="PARAMETER=TEXT",
    multiple=True,
    help="With a value as the plugin shows it, as threshold_db=-20; its raw one is looked for.",
)
def show_command(name: str, vstpreset: Path | None, state: Path | None, texts: tuple[str, ...]) -> None:
    """Show a plugin's parameters, and an effect for a preset that sets them.

    NAME is a plugin's name, the name of its file, or a path in an allowed folder.
    """
    from stembridge.plugins.folders import resolve
    from stembridge.plugins.scan import find_plugin, inspect_plugin

    settings = load_settings()
    path, plugin = find_plugin(name, settings)
    wanted = dict(map(_split, texts))
    found = inspect_plugin(path, plugin, vstpreset.absolute() if vstpreset else None, wanted)
    if state is not None:
        _save(state, found.state)
    _print_inspection(path, found)
    is_known_by_name = resolve(path.name, settings) == path
    print()
    print(snippet(path.name if is_known_by_name else str(path), plugin, found, state))


def snippet(path: str, plugin: str, found: Inspection, state: Path | None = None) -> str:
    """Return the effect as TOML, to be pasted into a preset: raw values, or the file of a state."""
    lines = ["[[stems.vocals.effects]]", 'kind = "plugin"', f"path = {json.dumps(path, ensure_ascii=False)}"]
    if plugin:
        lines.append(f"plugin = {json.dumps(plugin, ensure_ascii=False)}")
    if state is not None:
        return "\n".join((*lines, f"state_file = {json.dumps(state.name, ensure_ascii=False)}"))
    lines.append("[stems.vocals.effects.parameters]")
    settable = [one for one in found.parameters if one.is_automatable]
    lines += [f"{one.name} = {one.raw_value!r}  # {one_line(one.text)}".rstrip(" #") for one in settable]
    return "\n".join(lines)


def _split(text: str) -> tuple[str, str]:
    name, is_value, value = text.partition("=")
    if not is_value or not name.strip() or not value.strip():
        raise RequestError(f"--set {one_line(text)!r} is no value", "as in threshold_db=-20")
    return name.strip(), value.strip()


def _report(done: int, count: int, path: Path) -> None:
    print(f"{done + 1} of {count}: {one_line(path.name)}", file=sys.stderr)


def _print_findings(settings: Settings, findings: Sequence[Finding]) -> None:
    from stembridge.plugins.folders import allowed_folders

    if not findings:
        print(f"no plugin is known; searched are {', '.join(map(str, allowed_folders(settings)))}")
    for found in sorted(findings, key=lambda found: (bool(found.reason), found.name.casefold())):
        print(f"{one_line(found.name)}: {one_line(_facts(found))}\n    {one_line(found.path)}")


def _facts(found: Finding) -> str:
    if found.reason:
        return f"cannot be used: {found.reason}"
    latency = f"latency {found.reported_frames} frames" if found.reported_frames else ""
    late = ""
    if found.late_frames:
        side = "late" if found.late_frames > 0 else "early"
        late = f'{abs(found.late_frames)} frames {side} beyond that (latency = "auto" moves it)'
    facts = [
        found.maker,
        found.kind,
        found.category,
        found.version,
        LAYOUTS[found.stereo],
        LAYOUTS[found.mono],
    ]
    return ", ".join(fact for fact in (*facts, latency, late) if fact)


def _print_inspection(path: Path, found: Inspection) -> None:
    said = found.description
    facts = (said.maker, said.kind, said.category, said.version)
    print(f"{one_line(said.name)}: {one_line(', '.join(fact for fact in facts if fact))}")
    print(f"    {one_line(str(path))}")
    width = max((len(one.name) for one in found.parameters), default=0)
    for one in found.parameters:
        meaning = one_line(f"{one.text}  ({one.low_text} to {one.high_text})")
        if not one.is_automatable:
            meaning = f"{one_line(one.text)}  (shown by the plugin)"
        print(f"{one.name:<{width}}  {one.raw_value:.6f}  {meaning}".rstrip())


def _save(path: Path, state: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(state)
    except FileExistsError:
        raise OutputError(f"{path} exists", "name another file for the state") from None
