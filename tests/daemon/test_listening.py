"""What can be heard before a split is done, in which precision it is computed, what is said of both."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import FakeSeparator
from model_files import one_thread, small_htdemucs, write_th
from signals import make_music, make_noise, read_wav, to_ints, write_pcm
from splits import make_request, read_set, split_to_end
from stembridge import disk
from stembridge.catalog import find_model
from stembridge.errors import ModelError, OutputError, RequestError
from stembridge.model_store import locate
from stembridge.null_test import check_result
from stembridge.settings import load_settings
from stembridge.types import Early, Precision, Progress, Region, SplitRequest, SplitResult
from stembridge_daemon.admission import admit_split
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import (
    Block,
    MixtureReader,
    PrecisionChoice,
    SeparationPlan,
    Separator,
)

Signal = NDArray[np.float64]

MODEL_HZ = 44_100


class EarSeparator(FakeSeparator):
    """Gives the step around the frame that is to be heard first, for all items, and then the row."""

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        self.plan = plan
        if plan.listen_from is not None:
            for item, reader in reversed(list(enumerate(readers))):
                for block in self._separate_item(item, reader, plan):
                    if block.start <= plan.listen_from < block.start + block.stems.shape[-1]:
                        yield self.alter(replace(block, is_early=True))
        yield from super().separate(readers, plan)

    def alter(self, block: Block) -> Block:
        """Return the early block as it is handed out."""
        return block


class MixtureEar(EarSeparator):
    """The first source is the mixture, the others are silent."""

    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        stems = np.zeros((len(self.sources), *mixture.shape), np.float32)
        stems[0] = mixture
        return stems


def listen(
    request: SplitRequest, separator: Separator
) -> tuple[SplitResult, Early, dict[str, Signal], list[Progress]]:
    """Return the result, what could be heard, its samples as they were when it was told, and the progress."""
    heard: list[tuple[Early, dict[str, Signal]]] = []

    def hear(early: Early) -> None:
        files = {stem.name: read_wav(Path(stem.path)) for stem in early.stems}
        assert {rate for _, rate in files.values()} == {early.sample_rate}
        assert all(Path(stem.path).parent.name.startswith(".stembridge-") for stem in early.stems)
        assert not list(Path(early.stems[0].path).parent.glob("*.part"))
        heard.append((early, {name: samples for name, (samples, _) in files.items()}))

    told = []
    running = run_split("job", request, separator, hear=hear)
    while True:
        try:
            told.append(next(running))
        except StopIteration as stop:
            [(early, files)] = heard
            return stop.value, early, files, told


def write_music(path: Path, frames: int, channels: int, rate: int) -> tuple[Path, Signal]:
    ints = to_ints(make_music(frames, channels, rate, cutoff_hz=6_000), 24)
    return write_pcm(path, ints, rate, 24, "WAVEX" if channels > 2 else "WAV"), ints / 2.0**23


@pytest.mark.parametrize("is_on_grid", [False, True])
@pytest.mark.parametrize("rate", [16_000, 44_100, 47_952, 96_000])
@pytest.mark.parametrize("region", [None, (1, 53_017)])
def test_what_is_heard_early_lies_at_its_frames_of_the_source(
    tmp_path: Path, rate: int, region: tuple[int, int] | None, is_on_grid: bool
) -> None:
    path, music = write_music(tmp_path / "x.wav", 2 * rate + 60_001, 2, rate)
    place = Region(0, music.shape[1]) if region is None else Region(region[0] * rate, region[1])
    asked = place.start + 30_011
    request = make_request(
        path,
        tmp_path / "out",
        region=None if region is None else place,
        listen_from=asked,
        on_source_grid=is_on_grid,
    )
    _, early, files, _ = listen(request, MixtureEar())
    assert early.start <= asked < early.start + early.frames and early.sample_rate == rate
    assert place.start <= early.start and early.start + early.frames <= place.start + place.frames
    assert early.frames >= min(0.3 * rate, 0.9 * 20_000 * rate / MODEL_HZ)
    original = music[:, early.start : early.start + early.frames]
    assert files["drums"].shape == original.shape
    edge = 0 if rate == MODEL_HZ else rate // 40
    error = np.abs(files["drums"] - original)[:, edge : early.frames - edge].max()
    assert error <= (0 if rate == MODEL_HZ else 2e-4)
    # One frame off would be heard here.
    assert np.abs(np.roll(files["drums"], 1, axis=1) - original).max() > 0.01
    assert not files["vocals"].any()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_early_stems_are_those_of_the_set_in_its_order_and_leave_no_trace(
    tmp_path: Path, channels: int
) -> None:
    sources = ("piano", "vocals", "drums")
    path, _ = write_music(tmp_path / "x.wav", 70_001, channels, MODEL_HZ)
    request = make_request(path, tmp_path / "a", file_names="early-{stem}", listen_from=45_000)
    result, early, heard, told = listen(request, EarSeparator(sources=sources))
    assert [stem.name for stem in early.stems] == ["drums", "vocals", "piano"]
    assert [Path(stem.path).name for stem in early.stems] == [f"early-00{n}.wav" for n in (1, 2, 3)]
    assert (early.start, early.frames) == (40_000, 20_000)
    _, files = read_set(result.folder)
    for name, samples in heard.items():
        assert samples.shape[0] == channels and samples.any()
        final = files[name][:, 40_000:60_000]
        assert np.abs(samples - final).max() <= 2.0**-23, name
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [Path(result.folder).name]
    assert {path.name for path in Path(result.folder).iterdir()} == {
        *(f"early-{name}.wav" for name in files),
        "stems.json",
    }
    assert check_result(result.folder).holds

    silent = replace(request, out=str(tmp_path / "b"), listen_from=None)
    folder = Path(split_to_end(silent, EarSeparator(sources=sources))[0].folder)
    for file in folder.glob("*.wav"):
        assert file.read_bytes() == (Path(result.folder) / file.name).read_bytes()
    fractions = [progress.fraction for progress in told]
    assert fractions == sorted(fractions) and fractions[-1] <= 1


def test_two_stems_are_both_heard(tmp_path: Path) -> None:
    path, music = write_music(tmp_path / "x.wav", 70_001, 2, 48_000)
    request = make_request(path, tmp_path / "out", two_stems="vocals", listen_from=30_000)
    _, early, heard, _ = listen(request, EarSeparator())
    assert list(heard) == ["vocals", "no_vocals"]
    mixture = music[:, early.start : early.start + early.frames]
    assert np.abs(sum(heard.values()) - mixture).max() <= 2.0**-22 and heard["vocals"].any()


@pytest.mark.parametrize("frame", [9_999, 30_000])
def test_nobody_listens_outside_of_what_is_split(tmp_path: Path, frame: int) -> None:
    path, _ = write_music(tmp_path / "x.wav", 50_000, 1, MODEL_HZ)
    request = make_request(path, tmp_path / "out", region=Region(10_000, 20_000), listen_from=frame)
    words = f"listen_from {frame} lies outside of the 20000 frames from frame 10000"
    with pytest.raises(RequestError, match=words):
        split_to_end(request, EarSeparator())
    settings = load_settings(home=tmp_path / "home", environ={})
    with pytest.raises(RequestError, match=words):
        admit_split(replace(request, model="preview"), settings)
    whole = replace(request, region=None, listen_from=50_000)
    with pytest.raises(RequestError, match="listen_from 50000 lies outside of the 50000 frames from frame 0"):
        split_to_end(whole, EarSeparator())
    # Where a file ends is for the worker to find, where it begins is known.
    assert admit_split(replace(whole, model="preview"), settings).listen_from == 50_000
    with pytest.raises(RequestError, match="listen_from -1 lies outside"):
        admit_split(replace(whole, model="preview", listen_from=-1), settings)
    assert not (tmp_path / "out").exists()


def test_every_frame_that_is_asked_for_is_heard(tmp_path: Path) -> None:
    path, _ = write_music(tmp_path / "x.wav", 110_000, 1, 48_000)
    for frame in range(48_000, 90_000, 1_500):
        request = make_request(
            path, tmp_path / "out", region=Region(48_000, 42_000), stems=("drums",), listen_from=frame
        )
        heard: list[Early] = []
        running = run_split("job", request, MixtureEar(step_frames=4_000), hear=heard.append)
        assert any(heard for _ in running)
        running.close()
        assert heard[0].start <= frame < heard[0].start + heard[0].frames


def test_the_first_and_the_last_frame_can_be_listened_to(tmp_path: Path) -> None:
    path, music = write_music(tmp_path / "x.wav", 50_000, 2, 48_000)
    for frame in (0, 49_999):
        out = tmp_path / str(frame)
        _, early, heard, _ = listen(make_request(path, out, listen_from=frame), MixtureEar())
        assert early.start <= frame < early.start + early.frames
        inside = music[:, early.start : early.start + early.frames]
        assert np.abs(heard["drums"] - inside)[:, 2_000:-2_000].max() < 2e-4


@pytest.mark.parametrize("stage", ["separate", "close"])
def test_a_cancel_takes_what_could_be_heard_with_it(tmp_path: Path, stage: str) -> None:
    path, _ = write_music(tmp_path / "x.wav", 100_000, 2, MODEL_HZ)
    heard: list[Early] = []
    request = make_request(path, tmp_path / "deep" / "out", listen_from=90_000)
    running = run_split("job", request, EarSeparator(), hear=heard.append)
    assert any(progress.stage == stage and heard for progress in running)
    assert all(Path(stem.path).is_file() for stem in heard[0].stems)
    running.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize("stage", ["separate", "publish"])
def test_a_player_that_has_an_early_file_open_where_that_keeps_it_is_in_nobody_s_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    # As on Windows: what is open cannot be removed, and no folder that it lies in can be renamed.
    rename, unlink = os.rename, os.unlink

    def rename_closed(source: Path, target: Path) -> None:
        if any(Path(source).rglob("early-*.wav")):
            raise PermissionError(errno.EACCES, "used by another process")
        rename(source, target)

    def unlink_closed(path: str | Path, *, dir_fd: int | None = None) -> None:
        if Path(path).name.startswith("early-") and Path(path).suffix == ".wav":
            raise PermissionError(errno.EACCES, "used by another process")
        unlink(path, dir_fd=dir_fd)

    path, _ = write_music(tmp_path / "x.wav", 60_000, 2, MODEL_HZ)
    out = tmp_path / "out"
    heard: list[Early] = []
    running = run_split("job", make_request(path, out, listen_from=45_000), EarSeparator(), hear=heard.append)
    assert any(progress.stage == stage and heard for progress in running)
    with monkeypatch.context() as player:
        player.setattr(os, "rename", rename_closed)
        player.setattr(os, "unlink", unlink_closed)
        if stage == "publish":
            list(running)
        running.close()
    assert all(Path(stem.path).is_file() for stem in heard[0].stems)
    sets = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert len(sets) == (stage == "publish")
    assert all(check_result(folder).holds for folder in sets)
    # Once the player has let go of them, they go when the next job begins there.
    split_to_end(make_request(path, out), EarSeparator(), job_id="another")
    assert not list(out.glob(".*"))


class NoItem(EarSeparator):
    """Returns stems of an item that there is not."""

    def __init__(self, item: int) -> None:
        super().__init__()
        self._item = item

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        for block in super().separate(readers, plan):
            yield replace(block, item=self._item)


@pytest.mark.parametrize("item", [-1, 2])
@pytest.mark.parametrize("listen_from", [None, 10_000])
def test_stems_of_an_item_that_there_is_not_fail_the_job(
    tmp_path: Path, item: int, listen_from: int | None
) -> None:
    path, _ = write_music(tmp_path / "x.wav", 50_000, 3, MODEL_HZ)
    request = make_request(path, tmp_path / "out", listen_from=listen_from)
    with pytest.raises(ModelError, match=rf"fake returned stems of item {item}, there are 2 .report this"):
        split_to_end(request, NoItem(item))
    assert not (tmp_path / "out").exists()


class OtherPlace(EarSeparator):
    def alter(self, block: Block) -> Block:
        return replace(block, start=block.start + self.segment_frames)


class OtherStart(EarSeparator):
    def alter(self, block: Block) -> Block:
        return replace(block, start=block.start + block.item)


class Unasked(EarSeparator):
    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        return super().separate(readers, replace(plan, listen_from=100))


class FewerStems(EarSeparator):
    def alter(self, block: Block) -> Block:
        return replace(block, stems=block.stems[:-1])


class NoNumber(EarSeparator):
    def alter(self, block: Block) -> Block:
        return replace(block, stems=block.stems * np.float32(np.inf))


@pytest.mark.parametrize("separator", [OtherPlace(), OtherStart(), Unasked(), FewerStems(), NoNumber()])
def test_early_stems_that_were_not_due_fail_the_job(tmp_path: Path, separator: EarSeparator) -> None:
    path, _ = write_music(tmp_path / "x.wav", 50_000, 3, MODEL_HZ)
    listen_from = None if isinstance(separator, Unasked) else 10_000
    heard: list[Early] = []
    request = make_request(path, tmp_path / "out", listen_from=listen_from)
    with pytest.raises(ModelError, match="fake returned"):
        for _ in run_split("job", request, separator, hear=heard.append):
            pass
    assert not heard and not (tmp_path / "out").exists()


def test_room_for_what_is_heard_is_asked_for_before_the_first_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(400_000, 2), 16), 48_000, 16)
    request = make_request(path, tmp_path / "out", listen_from=0)
    separator = EarSeparator(step_frames=400_000)
    taken = max(
        sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
        for _ in run_split("job", request, separator)
    )
    free = taken + disk.MARGIN_BYTES - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OutputError, match="MB free, the split needs"):
        next(run_split("another", request, separator))


class InterleavedSeparator(FakeSeparator):
    """Goes through several items at once, as batches do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        self.calls += 1
        rows = [list(self._separate_item(item, reader, plan)) for item, reader in enumerate(readers)]
        for blocks in zip(*rows, strict=True):
            yield from reversed(blocks)


def test_all_groups_of_channels_are_separated_in_one_call_and_may_come_in_any_order(tmp_path: Path) -> None:
    path, _ = write_music(tmp_path / "x.wav", 90_000, 5, 48_000)
    mixed = InterleavedSeparator()
    folders = [
        Path(split_to_end(make_request(path, tmp_path / name), separator)[0].folder)
        for name, separator in (("a", mixed), ("b", FakeSeparator()))
    ]
    assert mixed.calls == 1
    for file in folders[0].glob("*.wav"):
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()


class HalfSeparator(FakeSeparator):
    """Has half precision unless there is a ``reason`` why not; says ``remarks`` of its steps."""

    def __init__(self, reason: str = "", remarks: Sequence[str] = (), is_repeatable: bool = True) -> None:
        super().__init__()
        self._reason = reason
        self._remarks = list(remarks)
        self._is_repeatable = is_repeatable
        self.computed: list[Precision] = []

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        return PrecisionChoice(Precision.FULL if self._reason else asked, self._reason)

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        self.computed.append(plan.precision)
        for number, block in enumerate(super().separate(readers, plan)):
            said = self._remarks[number : number + 1]
            yield replace(block, remarks=tuple(said), is_repeatable=self._is_repeatable or number != 1)


@pytest.mark.parametrize("asked", list(Precision))
@pytest.mark.parametrize("reason", ["", "this CPU has no bfloat16"])
def test_the_manifest_says_in_which_precision_was_computed(
    tmp_path: Path, asked: Precision, reason: str
) -> None:
    path, _ = write_music(tmp_path / "x.wav", 50_000, 2, MODEL_HZ)
    separator = HalfSeparator(reason if asked is Precision.HALF else "")
    request = make_request(path, tmp_path / "out", precision=asked)
    result, _ = split_to_end(request, separator)
    manifest, _ = read_set(result.folder)
    is_lesser = asked is Precision.HALF and bool(reason)
    used = Precision.FULL if is_lesser else asked
    assert manifest.model.precision == used and separator.computed == [used]
    said = f"computed in full precision, half was asked for: {reason}"
    assert [said] * is_lesser == [text for text in result.warnings if "precision" in text]
    assert result.warnings == manifest.warnings
    # The same job once more is that set, with all that was said of it.
    again, _ = split_to_end(request, separator)
    assert again.warnings == result.warnings


def test_what_a_separator_remarks_is_told_once_with_how_often(tmp_path: Path) -> None:
    path, _ = write_music(tmp_path / "x.wav", 100_000, 2, MODEL_HZ)
    remarks = ["a batch was not finite in half precision and was computed in full", "out of memory"]
    separator = HalfSeparator(remarks=[remarks[0], remarks[1], remarks[0], remarks[0]])
    result, _ = split_to_end(make_request(path, tmp_path / "out"), separator)
    manifest, _ = read_set(result.folder)
    assert result.warnings[-2:] == (f"{remarks[0]} (3 times)", remarks[1])
    assert manifest.warnings == result.warnings and manifest.deterministic


def test_a_step_that_another_run_need_not_repeat_is_in_the_manifest(tmp_path: Path) -> None:
    path, _ = write_music(tmp_path / "x.wav", 50_000, 2, MODEL_HZ)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), HalfSeparator(is_repeatable=False))
    assert not read_set(result.folder)[0].deterministic


@pytest.fixture(scope="module")
def real_separator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Separator]:
    """A small HTDemucs in the real engine: segments of a second, 0.75 s apart."""
    folder = tmp_path_factory.mktemp("models")
    write_th(small_htdemucs(3), folder, "955717e8")
    files = locate(find_model("htdemucs"), [folder])
    assert files is not None
    with one_thread():
        yield load_separator("htdemucs", files)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_real_model_is_heard_early_as_it_sounds_in_the_end(
    tmp_path: Path, rate: int, real_separator: Separator
) -> None:
    path, _ = write_music(tmp_path / "x.wav", 3 * rate, 3, rate)
    asked = make_request(path, tmp_path / "a", listen_from=round(1.8 * rate))
    result, early, heard, _ = listen(asked, real_separator)
    # The third segment, the last one that has this place, is heard on its own.
    begin, end = early.start / rate, (early.start + early.frames) / rate
    assert (begin, end) == pytest.approx((1.5, 2.5), abs=2e-4)
    _, files = read_set(result.folder)
    # Before 1.75 s the second one fades out, behind 2.0 s the last one, which ends at 3.0 s, fades in.
    alone = slice(round(1.76 * rate), round(1.99 * rate))
    for name, samples in heard.items():
        inside = samples[:, alone.start - early.start : alone.stop - early.start]
        assert np.abs(inside - files[name][:, alone]).max() <= (2.0**-23 if rate == MODEL_HZ else 1e-6)
        assert np.abs(inside).max() > 0.01, name

    plain = replace(asked, out=str(tmp_path / "b"), listen_from=None)
    folder = Path(split_to_end(plain, real_separator)[0].folder)
    for file in folder.glob("*.wav"):
        assert file.read_bytes() == (Path(result.folder) / file.name).read_bytes()


class TimedSeparator(FakeSeparator):
    """Takes as many seconds of a clock of its own for each step as it is told."""

    def __init__(self, durations: Sequence[float]) -> None:
        super().__init__(step_frames=10_000)
        self._durations = durations
        self.now = 0.0

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        for block, taken_s in zip(super().separate(readers, plan), self._durations, strict=True):
            self.now += taken_s
            yield block


@pytest.mark.parametrize(
    ("durations", "left_s"),
    [
        # The first step pays for what is set up once.
        ([30.0, *[2.0] * 11], {1: 330.0, 2: 20.0, 6: 12.0, 12: 0.0}),
        # Blocks of a batch come at once, after the time of all.
        ([8.0, 0.0, 0.0, 0.0] * 3, {4: 16.0, 8: 8.0, 12: 0.0}),
    ],
)
def test_the_time_that_is_left_follows_from_the_steps_that_were_timed(
    tmp_path: Path, durations: Sequence[float], left_s: dict[int, float]
) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(120_000, 1), 16), MODEL_HZ, 16)
    separator = TimedSeparator(durations)
    running = run_split("job", make_request(path, tmp_path / "out"), separator, clock=lambda: separator.now)
    etas = [progress.eta_s for progress in running if progress.stage == "separate"]
    assert {step: etas[step - 1] for step in left_s} == pytest.approx(left_s)


class CheckedSeparator(TimedSeparator):
    """Takes a hundred seconds to find out whether it can compute in half precision."""

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        self.now += 100.0
        return PrecisionChoice(asked)


@pytest.mark.parametrize("asked", list(Precision))
def test_the_check_of_half_precision_is_a_stage_and_counts_in_no_forecast(
    tmp_path: Path, asked: Precision
) -> None:
    path, _ = write_music(tmp_path / "x.wav", 30_000, 2, MODEL_HZ)
    separator = CheckedSeparator([2.0] * 3)
    steps = run_split(
        "a",
        make_request(path, tmp_path / "out", precision=asked),
        separator,
        hear=lambda early: None,
        clock=lambda: separator.now,
    )
    told = list(steps)
    assert ("check" in {progress.stage for progress in told}) == (asked is Precision.HALF)
    left_s = [
        progress.eta_s for progress in told if progress.stage == "separate" and progress.eta_s is not None
    ]
    assert left_s == [4.0, 2.0, 0.0]
