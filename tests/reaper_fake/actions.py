"""What the few REAPER actions do that Stembridge runs by their command id."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from reaper_fake.model import FakeProject, Item, Source, Take, section_of
from reaper_fake.playback import Samples, count_frames, render_project, render_take

if TYPE_CHECKING:
    from reaper_fake.reaper import FakeReaper


def run_action(host: FakeReaper, command: int, project: FakeProject) -> None:
    """Run the action with id `command`; one that is not in the contract is a breach."""
    if command in host.registered.values():
        host.run_registered(command)
        return
    if command not in host.contract.actions:
        raise host.breach(f"no action {command} in the contract")
    if command == 1007:
        project.play_state = 1
    elif command == 1016:
        project.play_state = 0
    elif command == 40859:
        host.open_tab()
    elif command == 40860:
        close_tab(host, project)
    elif command == 41824:
        render_to_file(host, project)
    else:
        host.change(project, host.contract.actions[command])
        for item in project.selected_items:
            _run_on_item(host, command, project, item)


def _run_on_item(host: FakeReaper, command: int, project: FakeProject, item: Item) -> None:
    take = item.active_take
    if take is None:
        return
    if command == 41999:
        render_to_take(host, project, item, take)
    elif command == 41051:
        toggle_reverse(item, take)
    elif command == 40129:
        item.remove_take(take)


def render_to_take(host: FakeReaper, project: FakeProject, item: Item, take: Take) -> Take:
    """Return the new active take: all of `take` in a file of its own, without what the item does to it."""
    rate = project.render_rate
    frames = count_frames(Fraction(item.length_s), rate)
    heard = render_take(take, host.shelf.samples, rate, pan_law=project.pan_law, frames=frames)
    path = _free_path(Path(project.folder), f"{take.name or 'untitled'}-render")
    _write_wav(path, heard, rate)
    baked = item.add_take(Take(host.new_guid(), name=path.stem))
    baked.set_source(host.shelf.source(str(path)))
    item.values["I_CURTAKE"] = float(len(item.takes) - 1)
    return baked


def toggle_reverse(item: Item, take: Take) -> None:
    """Turn the take round, so that the same part of the source is heard backwards."""
    source = take.source
    if source is None:
        return
    length = float(source.exact_length_s)
    span = item.length_s * take.values["D_PLAYRATE"]
    take.values["D_STARTOFFS"] = length - take.values.get("D_STARTOFFS", 0.0) - span
    if source.parent is None:
        turned = section_of(source, is_reversed=True)
    elif source.is_whole and source.is_reversed:
        turned = source.parent.copy()
    else:
        turned = Source(
            "SECTION",
            parent=source.parent,
            offset_s=source.offset_s,
            length_s=source.length_s,
            is_reversed=not source.is_reversed,
            is_whole=source.is_whole,
            overlap_s=source.overlap_s,
        )
    take.set_source(turned)


def close_tab(host: FakeReaper, project: FakeProject) -> None:
    """Close a tab; one with unsaved changes asks, as REAPER does."""
    if project.is_dirty and host.ask("save", f"Save changes to {project.name or 'untitled'}?") is None:
        return
    project.is_open = False
    index = host.projects.index(project)
    host.projects.remove(project)
    if not host.projects:
        host.open_tab()
    host.current = host.projects[min(index, len(host.projects) - 1)]


def render_target(project: FakeProject) -> Path:
    """Return the file that the render settings name: folder and name, or a whole path in RENDER_FILE."""
    place = Path(project.texts.get("RENDER_FILE", ""))
    pattern = project.texts.get("RENDER_PATTERN", "")
    path = Path(project.folder, place, pattern) if pattern else Path(project.folder, place)
    return path if path.suffix.lower() == ".wav" else path.with_name(path.name + ".wav")


def render_to_file(host: FakeReaper, project: FakeProject) -> None:
    """Render as the settings say: custom bounds (0), the whole project (1), the time selection (2)."""
    values = project.values
    rate = int(values.get("RENDER_SRATE", 0)) or project.render_rate
    bounds = values.get("RENDER_BOUNDSFLAG", 1)
    if bounds not in {0, 1, 2} or values.get("RENDER_SETTINGS", 0):
        raise host.breach(
            f"render of bounds {bounds} and settings {values.get('RENDER_SETTINGS')} is not modelled"
        )
    start, end = 0.0, project.length_s
    if bounds == 0:
        start, end = values.get("RENDER_STARTPOS", 0.0), values.get("RENDER_ENDPOS", 0.0)
    elif bounds == 2:
        start, end = project.time_selection
    frames = count_frames(Fraction(end) - Fraction(start), rate)
    if frames <= 0:
        raise host.breach("render of nothing")
    mix = render_project(project, host.shelf.samples, rate, start_s=Fraction(start), frames=frames)
    channels = int(values.get("RENDER_CHANNELS", 2))
    wide = np.zeros((channels, frames))
    wide[: min(len(mix), channels)] = mix[:channels]
    _write_wav(render_target(project), wide, rate)


def _write_wav(path: Path, samples: Samples, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, rate, subtype="FLOAT", format="WAV")


def _free_path(folder: Path, stem: str) -> Path:
    """Return the next name that is free, numbered as REAPER numbers its renders."""
    number = 1
    while (folder / f"{stem} {number:03}.wav").exists():
        number += 1
    return folder / f"{stem} {number:03}.wav"
