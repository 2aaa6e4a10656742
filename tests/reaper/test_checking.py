"""The check of a REAPER: a good one passes and is left as it was, a bad one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reaper_fake import FakeReaper, Media, actions, api, playback
from reaper_fake.media import MediaShelf
from reaper_fake.model import FakeProject, Source, Take
from stembridge.errors import JobFailed
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.snapshot import Host
from stembridge.reaper.threads import checking
from stembridge.reaper.turn import Turn
from studio import NO, YES, Studio

SAVE = ("save", True)
PIECES = ["plain", "reversed", "section", "play rate 1.25", "MP3", "in a folder"]


def read_report(studio: Studio) -> list[str]:
    [report] = studio.house.settings.reaper_work_dir.glob("check-*/report.txt")
    return report.read_text("utf-8").splitlines()


def failed(lines: list[str]) -> list[str]:
    return [line.removeprefix("FAILED  ").partition(":")[0] for line in lines if line.startswith("FAILED  ")]


def test_a_good_reaper_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    state = studio.reaper.state()["projects"]
    told = studio.run("check", YES, SAVE)
    lines = read_report(studio)
    assert "in REAPER 7.08/linux-x86_64 on Other: check passed" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:7]] == [f"nulls   {name}" for name in PIECES]
    assert "undo: 6 of 6 steps undone" in lines
    assert "undo: the project is as it was" in lines
    [rendered] = [line for line in lines if line.startswith("rendering an item (41999)")]
    assert "take volume is in it" in rendered
    assert "item fades are not in it" in rendered
    assert "all values read as they were set" in lines
    assert told[:-1] == lines
    assert str(studio.house.settings.reaper_work_dir) in told[-1]
    assert not any(is_error for _, is_error in studio.told)
    assert studio.reaper.state()["projects"] == state
    media = Path(studio.reaper.current.folder)
    assert not media.exists() or not (media / "Stems").exists()


@pytest.mark.parametrize("place", [0, -1], ids=["in the order of submission", "the last one first"])
def test_stems_may_come_in_any_order(tmp_path: Path, place: int) -> None:
    class SlowStudio(Studio):
        """One whose jobs are done one by one, each between two notes."""

        def _carry(self) -> None:
            before = self._answered
            super()._carry()
            waiting = [job.id for job in self.house.jobs.values() if not job.state.is_final]
            if waiting and self._answered != before:
                self.house.finish_jobs(waiting[place])

    studio = SlowStudio(tmp_path)
    studio.house.holds_jobs = True
    studio.run("check", YES, SAVE)
    lines = read_report(studio)
    assert lines[0].endswith("check passed")
    assert "undo: 6 of 6 steps undone" in lines
    assert "undo: the project is as it was" in lines


def test_the_first_question_is_left_out_only_where_a_script_remembers_that_nobody_is_there(
    tmp_path: Path,
) -> None:
    studio = Studio(tmp_path)
    turn = Turn(studio.house, Host(), {checking.UNATTENDED: "yes"}, Preferences())
    checking.start(turn)
    assert [order["do"] for order in turn.orders] == ["apply"]
    turn = Turn(studio.house, Host(), {}, Preferences())
    checking.start(turn)
    assert [order["do"] for order in turn.orders] == ["ask"]


def test_a_reaper_whose_rendering_leaves_an_undo_step_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NotingReaper(FakeReaper):
        """A REAPER whose own rendering is an undo step even where a script asks for none."""

        def end_block(self, project: FakeProject, label: str, flags: int) -> None:
            rendered, self.has_rendered = self.has_rendered, False
            super().end_block(project, label or "Render items to new take" * rendered, flags or -rendered)

        has_rendered = False

    render = actions.render_to_take

    def render_and_note(host: Any, *rest: Any) -> Any:
        host.has_rendered = True
        return render(host, *rest)

    monkeypatch.setattr(actions, "render_to_take", render_and_note)
    lines, _ = check(tmp_path, NotingReaper(tmp_path / "resource"))
    assert lines[0].endswith("check FAILED for undo")
    assert "FAILED  undo: rendering leaves an undo step" in lines
    assert "undo: 6 of 6 steps undone" in lines


def test_a_reaper_that_does_not_render_loses_no_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "render_to_take", lambda *_rest: None)
    studio = Studio(tmp_path)
    told = studio.run("check", YES)
    assert told[0].startswith("The check FAILED: REAPER refused")
    assert all(item.takes for item in studio.reaper.current.items)


def test_nothing_is_done_unless_it_is_wanted(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    assert not studio.run("check", NO)
    assert len(studio.reaper.projects) == 1
    studio.reaper.current.play_state = 1
    assert "stop it" in studio.run("check")[0]


def test_a_new_tab_that_is_not_empty_is_not_touched(tmp_path: Path) -> None:
    class TemplateReaper(FakeReaper):
        """A REAPER whose new projects begin with a track."""

        def open_tab(self, name: str = "", folder: Path | None = None) -> FakeProject:
            tab = super().open_tab(name, folder)
            if len(self.projects) > 1:
                self.add_track("from a template")
            return tab

    studio = Studio(tmp_path, reaper=TemplateReaper(tmp_path / "resource"))
    told = studio.run("check", YES)
    assert "the new tab is not empty" in told[0]
    assert [track.name for track in studio.reaper.current.tracks] == ["from a template"]
    assert len(studio.reaper.projects) == 2


def test_tracks_that_somebody_has_added_keep_the_tab_open(tmp_path: Path) -> None:
    class BusyReaper(FakeReaper):
        """A REAPER into whose scratch project somebody puts a track."""

        def step(self, project: FakeProject, *, is_redo: bool = False) -> bool:
            is_done = super().step(project, is_redo=is_redo)
            if not any("split" in label for label, _ in project.undo):
                self.add_track("mine", project=project)
            return is_done

    studio = Studio(tmp_path, reaper=BusyReaper(tmp_path / "resource"))
    told = studio.run("check", YES)
    assert "it stays open" in told[-1]
    assert len(studio.reaper.projects) == 2


def check(tmp_path: Path, reaper: FakeReaper | None = None) -> tuple[list[str], Studio]:
    studio = Studio(tmp_path, reaper=reaper)
    studio.run("check", YES, SAVE)
    lines = read_report(studio)
    assert any(is_error for _, is_error in studio.told)
    return lines, studio


def test_a_reaper_that_ignores_where_a_stems_section_starts_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk = api.SetItemStateChunk

    def forget_start(host: FakeReaper, item: Any, chunk: str, isundo: bool) -> Any:
        rows = chunk.split("\n")
        if "/Stems/" in chunk:
            rows = ["STARTPOS 0" if row.startswith("STARTPOS") else row for row in rows]
        return set_chunk(host, item, "\n".join(rows), isundo)

    monkeypatch.setattr(api, "SetItemStateChunk", forget_start)
    lines, _ = check(tmp_path)
    assert "check FAILED for section" in lines[0]
    assert failed(lines) == ["section"]


def test_a_reaper_whose_undo_does_nothing_is_found(tmp_path: Path) -> None:
    class StubbornReaper(FakeReaper):
        def step(self, project: FakeProject, *, is_redo: bool = False) -> bool:
            return False

    lines, _ = check(tmp_path, StubbornReaper(tmp_path / "resource"))
    assert lines[0].endswith("check FAILED for undo")
    assert "undo: 0 of 6 steps undone" in lines
    assert any(line.startswith("undo left behind: there were 8 tracks") for line in lines)


def test_a_reaper_that_renders_items_with_their_fades_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render_with_fades(host: FakeReaper, project: Any, item: Any, take: Any) -> Any:
        volume, item.values["D_VOL"] = item.values.get("D_VOL", 1.0), 1.0
        heard = playback.render_item(item, host.shelf.samples, project.render_rate)
        item.values["D_VOL"] = volume
        path = actions._free_path(Path(project.folder), "baked")
        actions._write_wav(path, heard, project.render_rate)
        baked = item.add_take(Take(host.new_guid(), name=path.stem))
        baked.set_source(host.shelf.source(str(path)))
        item.values["I_CURTAKE"] = float(len(item.takes) - 1)
        return baked

    monkeypatch.setattr(actions, "render_to_take", render_with_fades)
    lines, _ = check(tmp_path)
    assert lines[0].endswith("check FAILED for rendering an item")
    assert any("item fades are IN it" in line for line in lines)


def test_a_reaper_that_says_wrong_things_of_an_item_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = api.PCM_Source_GetSectionInfo

    def forget_direction(host: FakeReaper, src: Source) -> Any:
        found = list(find(host, src))
        return (*found[:-1], False)

    monkeypatch.setattr(api, "PCM_Source_GetSectionInfo", forget_direction)
    lines, _ = check(tmp_path)
    assert "what REAPER says of its items" in lines[0]
    assert any(line.startswith("reads otherwise: reversed: its section is") for line in lines)


def test_a_reaper_that_decodes_mp3_otherwise_passes_and_it_is_said(tmp_path: Path) -> None:
    class LateShelf(MediaShelf):
        """Media of which MP3s begin with what their encoder has put before them."""

        def open(self, path: str) -> Media | None:
            media = super().open(path)
            if media is None or media.kind != "MP3":
                return media
            return Media(np.pad(media.samples, ((0, 0), (1105, 0))), media.rate, media.kind)

    reaper = FakeReaper(tmp_path / "resource")
    reaper.shelf = LateShelf()
    studio = Studio(tmp_path, reaper=reaper)
    studio.run("check", YES, SAVE)
    lines = read_report(studio)
    assert lines[0].endswith("check passed")
    [mp3] = [line for line in lines if line.startswith("nulls   MP3")]
    assert mp3.endswith("(REAPER decodes it otherwise, and rendered it first)")


def test_a_split_that_fails_is_in_the_report(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    fault = JobFailed("the model is broken")
    studio.house.faults = {"check.wav": fault, "check.mp3": fault}
    studio.run("check", YES, SAVE)
    lines = read_report(studio)
    assert failed(lines) == PIECES
    assert "the model is broken" in lines[1]
