"""``stembridge presets list | show | check | new``: which there are, what they do, and one of your own."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator

import click

from stembridge.effects.chain import PluginEffect
from stembridge.errors import OutputError, PluginError, PresetError
from stembridge.manifest import RESIDUAL, STEM_ORDER
from stembridge.preset_words import describe_changes, describe_effects
from stembridge.presets import (
    Preset,
    find_preset,
    find_presets,
    name_owner,
    own_folder,
    read_preset,
    shipped_folder,
)
from stembridge.settings import Settings, load_settings
from stembridge.text import one_line
from stembridge.toml_text import write_toml

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KNOWN_STEMS = (*STEM_ORDER, RESIDUAL, *(f"no_{stem}" for stem in STEM_ORDER))
_TEMPLATE = """\
# `stembridge presets check {name}` reads this; what may stand here: docs/effects.md, docs/plugins.md.

[preset]
name = "{title}"
use = "what it is for, in one line"
tail = "trim"             # or "extend": the remix goes on until the last tail has died away

[stems.vocals]            # drums, bass, other, vocals, guitar, piano, residual: as the set has them
gain_db = 1.5             # after the effects; stems that are not named stay as they were split
# mute = true             # in place of all else: of a muted stem nothing is heard
# solo = true             # mutes every stem that is not soloed
# wet = 0.5               # the share of the effects in what is heard

[[stems.vocals.effects]]  # one after the other, in this order
kind = "high_shelf"
cutoff_hz = 8000.0
gain_db = 3.0

# [[stems.vocals.effects]]
# kind = "plugin"
# path = "ZamCompX2.vst3" # names: `stembridge plugins list`, what to write here: `stembridge plugins show`
# parameters = {{}}         # raw values, 0 to 1
# latency = "auto"        # moves what comes out by what was measured; "reported" trusts the plugin

# [[sends]]               # a stem of its own: what is sent to it, through its effects
# name = "hall"
# gain_db = -6.0
# levels_db = {{ vocals = 0.0 }}
# [[sends.effects]]
# kind = "reverb"
# mix = 1.0
# dry = 0.0

# [[master.effects]]      # on the whole remix
# kind = "low_cut"
# cutoff_hz = 30.0

# [master]                # touches every stem
# match = "lufs"          # as loud as the original; or "rms"
# ceiling_dbtp = -1.0     # true peak that one gain curve for all stems keeps the remix below
"""


@click.group("presets")
def presets_group() -> None:
    """Presets: which there are, what they do, and one of your own."""


def complete_presets(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the names of presets that begin with ``start``."""
    return [name for name in find_presets(load_settings()) if name.startswith(start)]


_changes_option = click.option(
    "--set", "changes", metavar="PLACE=VALUE", multiple=True, help="A value, as `stembridge remix` takes it."
)


@presets_group.command("list")
def list_presets() -> None:
    """Show every preset by the name it is called by, what it is for, and what it changes."""
    settings = load_settings()
    for name, path in find_presets(settings).items():
        owner = name_owner(path, settings)
        try:
            preset = read_preset(path)
        except PresetError as error:
            click.echo(f"{name}{owner}: cannot be used\n    {one_line(str(error))}")
            continue
        click.echo(
            f"{name}{owner}: {preset.use}\n    {'; '.join(describe_changes(preset)) or 'changes nothing'}"
        )


@presets_group.command("show")
@click.argument("name", shell_complete=complete_presets)
@_changes_option
def show_preset(name: str, changes: tuple[str, ...]) -> None:
    """Show the preset NAME, or that in a file, as TOML, and what each effect does as comments."""
    settings = load_settings()
    path = find_preset(name, settings)
    preset = read_preset(path, changes)
    text = preset.text if changes else path.read_text("utf-8")
    place = f"{one_line(str(path))}{name_owner(path, settings)}"
    click.echo(f"# {place}{''.join(f' --set {change}' for change in changes)}")
    for line in (*describe_changes(preset), *describe_effects(preset)):
        click.echo(f"# {one_line(line)}")
    click.echo(f"\n{text.strip()}")


@presets_group.command("check")
@click.argument("names", nargs=-1, required=True, shell_complete=complete_presets)
@_changes_option
def check_presets(names: tuple[str, ...], changes: tuple[str, ...]) -> int:
    """Read the presets NAMES, or files, and say what is wrong with them.

    Exit codes: 0 all can be used, 1 one cannot.
    """
    settings = load_settings()
    has_failed = False
    for name in names:
        try:
            preset = read_preset(find_preset(name, settings), changes)
            _check_plugins(preset, settings)
        except (PresetError, PluginError) as error:
            has_failed = True
            click.echo(f"{one_line(name)}: {one_line(str(error))}", err=True)
            continue
        click.echo(f"{one_line(name)}: ok: {'; '.join(describe_changes(preset)) or 'changes nothing'}")
        for doubt in _list_doubts(preset):
            click.echo(f"    {one_line(doubt)}")
    return int(has_failed)


def _check_plugins(preset: Preset, settings: Settings) -> None:
    """Raise where a plugin is not here, may not be opened, or failed when it was scanned; none is opened."""
    plugins = [effect for effect in preset.effects if isinstance(effect, PluginEffect)]
    if not plugins:
        return
    from stembridge.plugins.folders import resolve
    from stembridge.plugins.scan import find_reason

    for effect in plugins:
        reason = find_reason(resolve(effect.path, settings), effect.plugin, settings)
        if reason:
            raise PluginError(
                f"{reason}, when it was scanned", "`stembridge plugins scan --again` opens it again"
            )


def _list_doubts(preset: Preset) -> Iterator[str]:
    """Yield what can be meant but hardly is."""
    has_solo = any(change.is_solo for change in preset.stems.values())
    sent = {stem for send in preset.sends for stem in send.levels_db}
    for stem in preset.named_stems:
        change = preset.stems.get(stem)
        is_silent = (change is not None and change.is_muted) or (
            has_solo and (change is None or not change.is_solo)
        )
        if is_silent and change is not None and (change.chain.effects or change.gain_db):
            yield f"{stem} is not heard, so its effects and its gain do nothing"
        if is_silent and stem in sent:
            yield f"{stem} is not heard, so it sends nothing"
        if stem not in _KNOWN_STEMS:
            near = difflib.get_close_matches(stem, _KNOWN_STEMS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            yield f"no model has a stem {stem!r}: {meant}only sets of your own may have it"


@presets_group.command("new")
@click.argument("name")
@click.option(
    "--from", "origin", metavar="PRESET", shell_complete=complete_presets, help="Begin with a copy of it."
)
def new_preset(name: str, origin: str | None) -> None:
    """Begin a preset NAME of your own, with everything that can stand in it explained."""
    settings = load_settings()
    plain = "-".join(name.lower().split())
    if not _NAME.fullmatch(plain):
        raise PresetError(f"a preset cannot be called {name!r}", "letters a to z, digits, - and _")
    shipped = shipped_folder() / f"{plain}.toml"
    is_copy = origin is not None and find_preset(origin, settings).name == shipped.name
    if shipped.is_file() and not is_copy:
        raise PresetError(
            f"{plain!r} is a preset that is shipped", f"take another name, or begin with it: --from {plain}"
        )
    title = plain.replace("-", " ").replace("_", " ").capitalize()
    if origin is None:
        text = _TEMPLATE.format(name=plain, title=title)
    else:
        table = tomllib.loads(read_preset(find_preset(origin, settings)).text)
        table["preset"]["name"] = title
        text = write_toml(table)
    path = own_folder(settings) / f"{plain}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputError(f"{path} is there already", "edit it, or take another name") from None
    read_preset(path)
    if is_copy:
        click.echo(f"this takes the place of the {plain} that is shipped")
    click.echo(f"{path}\nread by `stembridge presets check {plain}`, rendered by `stembridge remix`")
