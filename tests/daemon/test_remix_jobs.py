"""Remixes as jobs: a worker of their own, that neither waits for the splits nor falls with them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fake_renderer
import fake_worker
from daemon_harness import DaemonHarness, is_alive, wait_until
from fake_renderer import BROKEN, GATED, POISON
from fakes import FakeSeparator
from signals import make_noise, to_ints, write_pcm
from splits import make_request, split_to_end
from stembridge.cli import main
from stembridge.client import Client, new_job_id
from stembridge.errors import (
    Busy,
    EffectError,
    IdConflict,
    JobCancelled,
    Leaving,
    OutputError,
    PresetError,
    RequestError,
    SourceError,
    StembridgeError,
)
from stembridge.manifest import FILE_NAME, read_manifest
from stembridge.mixdown.render import render_remix
from stembridge.null_test import check_result
from stembridge.presets import own_folder
from stembridge.settings import Settings, load_settings
from stembridge.stages import run_to_end
from stembridge.types import Job, JobState, RemixRequest, SplitRequest
from stembridge_daemon import admission

FRONT_FAILPOINTS = ("front-after-dispatch", "front-before-done")
"""Those at which a worker has a part in what happens; the others never know what kind of job it is."""
WORKER_FAILPOINTS = ("worker-start", "render-before-rename", "render-after-rename")
RENDER_FAILPOINTS = ("render-before-manifest", "render-before-rename", "render-after-rename")
OWN_PRESET = '[preset]\nname = "Own"\nuse = "a test"\n[stems.vocals]\ngain_db = -6.0\n'


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = to_ints(make_noise(3 * 44_100, 2), 16)
    return write_pcm(tmp_path_factory.mktemp("song") / "song.wav", noise, 44_100, 16)


@pytest.fixture(scope="module")
def stem_set(song: Path) -> Path:
    """A finished set of four stems and a residual."""
    result, _ = split_to_end(make_request(song, song.parent / "sets"), FakeSeparator())
    return Path(result.folder)


@pytest.fixture
def request_of(stem_set: Path, tmp_path: Path) -> RemixRequest:
    return RemixRequest(str(stem_set), str(tmp_path / "out"), "karaoke")


@pytest.fixture
def split_of(song: Path, tmp_path: Path) -> SplitRequest:
    """A split that waits at the gate."""
    return SplitRequest(str(song), str(tmp_path / "splits"), "preview", seed=fake_worker.GATED)


class Crew:
    """A daemon whose workers are fakes, and the gates at which their jobs wait."""

    def __init__(self, daemon: DaemonHarness, folder: Path) -> None:
        self.daemon = daemon
        self.split_gate, self.remix_gate = folder / "split gate", folder / "remix gate"

    def start(self, *flags: str, failpoint: str = "", once: Path | None = None) -> int:
        """Return the pid of a fresh daemon."""
        process = self.daemon.start(
            *flags,
            failpoint=failpoint,
            once=once,
            worker=fake_worker.command(self.split_gate),
            renderer=fake_renderer.command(self.remix_gate),
        )
        return process.pid


@pytest.fixture
def crew(daemon: DaemonHarness, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(daemon, tmp_path)
    yield crew
    crew.split_gate.touch()
    crew.remix_gate.touch()


def wait_for_stage(client: Client, job_id: str, stage: str) -> None:
    """Return once a job is so far."""
    for job in client.events(job_id):
        if job.progress is not None and job.progress.stage == stage and job.progress.fraction > 0:
            return
    raise AssertionError(f"{job_id} ended without {stage}: {job}")


def hidden_in(folder: str) -> list[Path]:
    return [path for path in Path(folder).iterdir() if path.name.startswith(".")]


def test_a_remix_runs_while_a_split_does_and_each_ends_by_itself(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        split = client.submit(split_of)
        waiting = client.submit(split_of)
        wait_for_stage(client, split.id, "separate")
        done = client.wait(client.submit(request_of).id, 60)
        assert (done.state, done.remix, done.request) == (JobState.DONE, request_of, None)
        gated = client.submit(replace(request_of, pitch=GATED))
        wait_for_stage(client, gated.id, "render")
        separating, rendering = client.status().workers
        assert [(worker.role, worker.state, worker.job) for worker in (separating, rendering)] == [
            ("separate", "busy", split.id),
            ("render", "busy", gated.id),
        ]
        assert separating.pid != rendering.pid and rendering.models == ()
        assert client.get(waiting.id).state is JobState.QUEUED
        crew.split_gate.touch()
        assert client.wait(waiting.id, 60).state is JobState.DONE
        assert client.get(gated.id).state is JobState.RUNNING
        crew.remix_gate.touch()
        assert client.wait(gated.id, 60).state is JobState.DONE
        for role in ("separate", "render"):
            crew.daemon.worker_pid(role)


def test_remixes_run_one_after_the_other_in_their_order(crew: Crew, request_of: RemixRequest) -> None:
    crew.start()
    with crew.daemon.client() as client:
        first = client.submit(replace(request_of, pitch=GATED))
        others = [client.submit(request_of) for _ in range(3)]
        wait_for_stage(client, first.id, "render")
        assert {client.get(job.id).state for job in others} == {JobState.QUEUED}
        crew.remix_gate.touch()
        ended = [job.id for job in client.events(first.id, *(job.id for job in others)) if job.state.is_final]
        assert ended[0] == first.id and len(ended) == 4
        starts = {worker.role: worker.starts for worker in client.status().workers}
        assert starts == {"separate": 0, "render": 1}, "no split, no worker that separates"
        crew.daemon.worker_pid("render")


def test_a_killed_render_worker_costs_neither_its_remix_nor_the_split_beside_it(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        split = client.submit(split_of)
        remix = client.submit(replace(request_of, pitch=GATED, changes=("vocals.mute=false",)))
        wait_for_stage(client, split.id, "separate")
        wait_for_stage(client, remix.id, "render")
        separating, rendering = (crew.daemon.worker_pid(role) for role in ("separate", "render"))
        assert len(hidden_in(request_of.out)) == 1
        os.kill(rendering, signal.SIGKILL)
        crew.remix_gate.touch()
        done = client.wait(remix.id, 60)
        assert done.state is JobState.DONE and done.attempt == 2
        assert any("worker died (SIGKILL)" in line.text for line in client.get(remix.id).story)
        assert done.result is not None
        told = (Path(done.result.folder) / "remix.txt").read_text()
        assert told == "karaoke vocals.mute=false"
        assert list(Path(request_of.out).iterdir()) == [Path(done.result.folder)]
        assert crew.daemon.worker_pid("render") != rendering
        # What runs beside it has noticed nothing.
        assert client.get(split.id).state is JobState.RUNNING and client.get(split.id).attempt == 1
        assert crew.daemon.worker_pid() == separating
        crew.split_gate.touch()
        assert client.wait(split.id, 60).attempt == 1


def test_a_killed_separate_worker_does_not_cost_the_remix_beside_it(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        split = client.submit(split_of)
        remix = client.submit(replace(request_of, pitch=GATED))
        wait_for_stage(client, split.id, "separate")
        wait_for_stage(client, remix.id, "render")
        rendering = crew.daemon.worker_pid("render")
        os.kill(crew.daemon.worker_pid(), signal.SIGKILL)
        crew.split_gate.touch()
        assert client.wait(split.id, 60).attempt == 2
        assert client.get(remix.id).state is JobState.RUNNING
        assert crew.daemon.worker_pid("render") == rendering
        crew.remix_gate.touch()
        assert client.wait(remix.id, 60).attempt == 1
        crew.daemon.worker_pid()


def test_a_remix_that_kills_its_worker_is_put_aside_and_the_next_one_runs(
    crew: Crew, request_of: RemixRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        poison = client.submit(replace(request_of, pitch=POISON))
        after = client.submit(request_of)
        assert client.wait(after.id, 60).state is JobState.DONE
        with pytest.raises(StembridgeError, match=r"died 3 times on this remix of .*SIGKILL") as caught:
            client.wait(poison.id, 60)
        assert caught.value.code == "quarantined" and "preset" in caught.value.hint
        assert hidden_in(request_of.out) == []
        crew.daemon.worker_pid("render")


def test_an_effect_that_fails_fails_its_remix_with_its_sentence_and_costs_no_worker(
    crew: Crew, request_of: RemixRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        broken = client.submit(replace(request_of, pitch=BROKEN))
        with pytest.raises(EffectError, match="reverb on vocals gave NaN"):
            client.wait(broken.id, 60)
        worker = crew.daemon.worker_pid("render")
        assert client.wait(client.submit(request_of).id, 60).state is JobState.DONE
        assert crew.daemon.worker_pid("render") == worker
        assert hidden_in(request_of.out) == []


def test_a_cancel_ends_a_remix_within_one_step_and_leaves_nothing(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        split = client.submit(split_of)
        running = client.submit(replace(request_of, pitch=GATED))
        waiting = client.submit(request_of)
        wait_for_stage(client, split.id, "separate")
        wait_for_stage(client, running.id, "render")
        worker = crew.daemon.worker_pid("render")
        assert client.cancel(waiting.id).state is JobState.CANCELLED
        client.cancel(running.id)
        crew.remix_gate.touch()
        with pytest.raises(JobCancelled):
            client.wait(running.id, 60)
        assert list(Path(request_of.out).iterdir()) == []
        assert client.get(split.id).state is JobState.RUNNING, "another job was cancelled"
        assert client.wait(client.submit(request_of).id, 60).state is JobState.DONE
        assert crew.daemon.worker_pid("render") == worker
        crew.daemon.worker_pid()


def test_a_paused_remix_lets_others_by_and_goes_on_where_it_stopped(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        paused = client.submit(replace(request_of, pitch=GATED))
        wait_for_stage(client, paused.id, "render")
        assert client.pause(paused.id).is_paused
        wait_until(fake_worker.pause_file(crew.remix_gate).exists, "the worker to hear of the pause")
        crew.remix_gate.touch()
        assert client.wait(client.submit(request_of).id, 60).state is JobState.DONE
        assert client.get(paused.id).is_paused
        split = client.submit(split_of)
        wait_for_stage(client, split.id, "separate")
        assert [worker.paused for worker in client.status().workers] == [(), (paused.id,)]
        client.resume(paused.id)
        assert client.wait(paused.id, 60).attempt == 1
        assert not client.get(split.id).is_paused
        for role in ("separate", "render"):
            crew.daemon.worker_pid(role)


@pytest.mark.parametrize("point", [*FRONT_FAILPOINTS, *WORKER_FAILPOINTS])
def test_a_kill_at_any_point_loses_and_doubles_no_remix(
    point: str, crew: Crew, request_of: RemixRequest, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    crew.start(failpoint=point, once=once)
    wanted = {new_job_id(): ("vocals.mute=false", f"drums.gain_db=-{number}") for number in (1, 2)}
    with crew.daemon.client(deadline_s=3.0) as client:
        for job_id, changes in wanted.items():
            submit_through_kills(crew, client, replace(request_of, changes=changes), job_id)
        jobs = [wait_through_kills(crew, client, job_id) for job_id in wanted]
    assert once.exists(), "the failpoint was never reached"
    told = {job.id: (Path(job.result.folder) / "remix.txt").read_text() for job in jobs if job.result}
    assert told == {job_id: f"karaoke {' '.join(changes)}" for job_id, changes in wanted.items()}
    assert len(list(Path(request_of.out).iterdir())) == 2
    if point.startswith("render") or point == "front-after-dispatch":
        assert jobs[0].attempt == 2
    crew.daemon.adopt()


def submit_through_kills(crew: Crew, client: Client, request: RemixRequest, job_id: str) -> None:
    """Submit a job to a daemon that may be killed meanwhile; then start the next one, as a client would."""
    try:
        client.submit(request, job_id)
    except StembridgeError:
        crew.start()
        client.submit(request, job_id)


def wait_through_kills(crew: Crew, client: Client, job_id: str) -> Job:
    try:
        return client.wait(job_id, 60)
    except StembridgeError:
        crew.start()
        return client.wait(job_id, 60)


def test_sigterm_requeues_split_and_remix_and_the_next_start_finishes_both(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.daemon.home.mkdir(parents=True)
    (crew.daemon.home / "settings.toml").write_text("stop_grace_s = 0.1\n")
    crew.start()
    with crew.daemon.client() as client:
        jobs = [client.submit(split_of), client.submit(replace(request_of, pitch=GATED))]
        wait_for_stage(client, jobs[0].id, "separate")
        wait_for_stage(client, jobs[1].id, "render")
        workers = [crew.daemon.worker_pid(role) for role in ("separate", "render")]
    (process,) = crew.daemon.processes
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not any(map(is_alive, workers))
    crew.split_gate.touch()
    crew.remix_gate.touch()
    crew.start()
    with crew.daemon.client() as client:
        assert [client.wait(job.id, 60).attempt for job in jobs] == [2, 2]
        crew.daemon.adopt()


def test_sigterm_lets_a_short_remix_finish(crew: Crew, request_of: RemixRequest) -> None:
    crew.start()
    (process,) = crew.daemon.processes
    with crew.daemon.client() as client:
        job = client.submit(replace(request_of, pitch=GATED))
        wait_for_stage(client, job.id, "render")
        crew.daemon.worker_pid("render")
        process.send_signal(signal.SIGTERM)
        # Until it has been told, a daemon takes jobs.
        wait_until(lambda: is_leaving(client, request_of), "the daemon to leave")
        crew.remix_gate.touch()
        assert client.wait(job.id, 60).attempt == 1
    assert process.wait(30) == 0


def is_leaving(client: Client, request: RemixRequest) -> bool:
    try:
        client.submit(replace(request, pitch=GATED))
    except Leaving:
        return True
    return False


def test_neither_worker_outlives_a_front_that_is_killed(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        client.submit(split_of)
        client.submit(replace(request_of, pitch=GATED))
        workers = [crew.daemon.worker_pid(role) for role in ("separate", "render")]
    crew.daemon.kill(crew.daemon.processes[0])
    wait_until(lambda: not any(map(is_alive, workers)), "the workers to follow their front")


def test_an_idle_render_worker_ends_and_comes_back_while_a_split_goes_on(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.start("--keep-alive", "0.2")
    with crew.daemon.client() as client:
        split = client.submit(split_of)
        wait_for_stage(client, split.id, "separate")
        client.wait(client.submit(request_of).id, 60)
        wait_until(lambda: client.status().workers[1].state == "absent", "the idle worker to end")
        client.wait(client.submit(request_of).id, 60)
        assert client.status().workers[1].starts == 2
        assert client.get(split.id).state is JobState.RUNNING
        crew.daemon.worker_pid()


def test_a_full_queue_of_splits_takes_remixes(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    crew.daemon.home.mkdir(parents=True)
    (crew.daemon.home / "settings.toml").write_text("max_queue = 1\n")
    crew.start()
    with crew.daemon.client() as client:
        wait_for_stage(client, client.submit(split_of).id, "separate")
        client.submit(split_of)
        with pytest.raises(Busy):
            client.submit(split_of)
        assert client.wait(client.submit(request_of).id, 60).state is JobState.DONE
        crew.daemon.adopt()


def test_a_repeated_submit_is_the_same_remix_and_another_request_a_conflict(
    crew: Crew, request_of: RemixRequest, split_of: SplitRequest
) -> None:
    preset = own_folder(crew.daemon.settings) / "mine.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text(OWN_PRESET)
    crew.start()
    mine = replace(request_of, preset="mine")
    with crew.daemon.client() as client:
        client.wait(client.submit(mine, "a").id, 60)
        assert client.submit(mine, "a").state is JobState.DONE
        with pytest.raises(IdConflict):
            client.submit(replace(mine, changes=("vocals.gain_db=-3",)), "a")
        with pytest.raises(IdConflict):
            client.submit(split_of, "a")
        preset.write_text(OWN_PRESET.replace("-6.0", "-9.25"))
        with pytest.raises(IdConflict):
            client.submit(mine, "a")
        preset.unlink()
        assert client.submit(mine, "a").state is JobState.DONE, "what was done stays done"
        assert len(client.jobs()) == 1
        crew.daemon.adopt()


def test_what_changed_while_its_remix_waited_is_not_rendered(
    crew: Crew, request_of: RemixRequest, stem_set: Path, tmp_path: Path
) -> None:
    preset = own_folder(crew.daemon.settings) / "mine.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text(OWN_PRESET)
    edited, gone = tmp_path / "edited", tmp_path / "gone"
    for folder in (edited, gone):
        folder.mkdir()
        (folder / FILE_NAME).write_bytes((stem_set / FILE_NAME).read_bytes())
    crew.start()
    with crew.daemon.client() as client:
        first = client.submit(replace(request_of, pitch=GATED))
        wait_for_stage(client, first.id, "render")
        mine = client.submit(replace(request_of, preset="mine"))
        of_edited = client.submit(replace(request_of, source=str(edited)))
        of_gone = client.submit(replace(request_of, source=str(gone)))
        untouched = client.submit(request_of)
        preset.write_text(OWN_PRESET.replace("-6.0", "-7.0"))
        os.utime(edited / FILE_NAME, (1, 1))
        (gone / FILE_NAME).unlink()
        crew.remix_gate.touch()
        with pytest.raises(
            PresetError, match=r"preset 'mine' changed since it was asked for .submit it again"
        ):
            client.wait(mine.id, 60)
        with pytest.raises(SourceError, match=r"edited' changed since it was asked for .submit it again"):
            client.wait(of_edited.id, 60)
        with pytest.raises(SourceError, match=r"gone/stems\.json' does not exist"):
            client.wait(of_gone.id, 60)
        assert client.wait(untouched.id, 60).state is JobState.DONE
        again = client.wait(client.submit(replace(request_of, preset="mine")).id, 60)
        assert again.state is JobState.DONE
        crew.daemon.worker_pid("render")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, f"[{'1' * 5000}]", '"' + "\\" * 9])
def test_a_value_that_nothing_reads_is_refused_by_name(
    text: str, crew: Crew, request_of: RemixRequest, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(OWN_PRESET.replace("-6.0", text))
    crew.start()
    with crew.daemon.client() as client:
        with pytest.raises(PresetError, match=r"--set .*vocals"):
            client.submit(replace(request_of, changes=(f"vocals.gain_db={text[:20_000]}",)))
        with pytest.raises(PresetError, match=r"mine\.toml"):
            client.submit(replace(request_of, preset=str(preset)))


def test_a_set_that_could_be_read_for_ever_does_not_stop_the_daemon(
    crew: Crew, request_of: RemixRequest, tmp_path: Path
) -> None:
    pipe, huge = tmp_path / "pipe", tmp_path / "huge"
    for folder in (pipe, huge):
        folder.mkdir()
    os.mkfifo(pipe / FILE_NAME)
    with (huge / FILE_NAME).open("wb") as file:
        file.truncate(1 << 40)
    crew.start()
    with crew.daemon.client() as client:
        with pytest.raises(SourceError, match="no regular file"):
            client.submit(replace(request_of, source=str(pipe)))
        with pytest.raises(SourceError, match="more than 32 MiB"):
            client.submit(replace(request_of, source=str(huge)))


def test_a_remix_stands_in_the_list_with_its_preset(
    crew: Crew, request_of: RemixRequest, stem_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crew.start()
    with crew.daemon.client() as client:
        changed = replace(request_of, changes=("vocals.mute=false", "bass.gain_db=2"))
        client.wait(client.submit(changed, "a-remix").id, 60)
    assert main(["jobs"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("a-remix") and line.endswith(f"done  karaoke  {stem_set.name}")
    assert main(["jobs", "show", "a-remix"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert f"source {stem_set}" in shown and "preset karaoke vocals.mute=false bass.gain_db=2" in shown
    assert main(["daemon", "status"]) == 0
    (status,) = [line for line in capsys.readouterr().out.splitlines() if "(render)" in line]
    assert status.startswith("worker (render) on cpu: ") and "model" not in status
    assert main(["daemon", "logs", "--worker", "render"]) == 0
    crew.daemon.adopt()


def audio_of(folder: str) -> dict[str, str]:
    """Return the hash of every file's samples, after the null test has found them to be what is claimed."""
    report = check_result(Path(folder))
    assert report.holds, report.failures
    return {entry.name: entry.sha256 for entry in read_manifest(Path(folder)).stems}


@pytest.fixture(scope="module")
def expected(stem_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The right audio, from a render that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    request = RemixRequest(str(stem_set), str(folder), "karaoke", stems_out=True)
    steps = render_remix(request, "job", load_settings(home=folder / "home", environ={}))
    return audio_of(run_to_end(steps).folder)


def test_the_worker_of_this_installation_renders_and_knows_no_torch(
    daemon: DaemonHarness, request_of: RemixRequest, expected: dict[str, str]
) -> None:
    daemon.start()
    with daemon.client() as client:
        done = client.wait(client.submit(replace(request_of, stems_out=True)).id, 60)
        worker = daemon.worker_pid("render")
        assert done.result is not None and audio_of(done.result.folder) == expected
        assert read_manifest(Path(done.result.folder)).job == done.id
        libraries = Path(f"/proc/{worker}/maps").read_text()
        assert "numpy" in libraries and "torch" not in libraries
        assert client.status().workers[0].starts == 0


def test_two_real_renders_that_take_turns_give_the_audio_that_each_gives_alone(
    stem_set: Path, tmp_path: Path, expected: dict[str, str]
) -> None:
    settings = load_settings(home=tmp_path / "home", environ={})
    request = RemixRequest(str(stem_set), str(tmp_path / "out"), "karaoke", stems_out=True)
    running = [render_remix(request, job_id, settings) for job_id in ("one", "two")]
    ended = []
    while running:
        for steps in list(running):
            try:
                next(steps)
            except StopIteration as end:
                ended.append(audio_of(end.value.folder))
                running.remove(steps)
    assert ended == [expected, expected]


@pytest.mark.parametrize("point", RENDER_FAILPOINTS)
def test_a_real_render_that_is_killed_gives_the_same_audio_and_leaves_nothing(
    point: str, daemon: DaemonHarness, request_of: RemixRequest, expected: dict[str, str], tmp_path: Path
) -> None:
    once = tmp_path / "once"
    daemon.start(failpoint=point, once=once)
    with daemon.client() as client:
        done = client.wait(client.submit(replace(request_of, stems_out=True)).id, 60)
        daemon.worker_pid("render")
    assert once.exists(), "the failpoint was never reached"
    assert done.attempt == 2 and done.result is not None
    assert list(Path(request_of.out).iterdir()) == [Path(done.result.folder)]
    assert audio_of(done.result.folder) == expected


def test_a_worker_finds_the_presets_of_its_home(daemon: DaemonHarness, request_of: RemixRequest) -> None:
    preset = own_folder(daemon.settings) / "mine.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text(OWN_PRESET)
    daemon.start()
    with daemon.client() as client:
        done = client.wait(client.submit(replace(request_of, preset="mine")).id, 60)
        daemon.worker_pid("render")
    assert done.result is not None
    remix = read_manifest(Path(done.result.folder)).remix
    assert remix is not None and "gain_db = -6.0" in remix.text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", environ={})


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"source": "/no such set"}, SourceError, "'/no such set/stems.json' does not exist"),
        ({"source": "relative"}, RequestError, "source 'relative' is not an absolute path"),
        ({"source": "/nul\0byte"}, RequestError, "source is no path"),
        ({"out": "relative"}, RequestError, "out 'relative' is not an absolute path"),
        ({"preset": "karaok"}, PresetError, r"no preset 'karaok' \(did you mean karaoke"),
        ({"preset": "mine.toml"}, RequestError, "preset 'mine.toml' is not an absolute path"),
        ({"preset": "~/mine.toml"}, RequestError, "is not an absolute path"),
        ({"preset": "/no such/mine.toml"}, PresetError, "no preset file /no such/mine.toml"),
        ({"changes": ("vocals.gain_db=999",)}, PresetError, "999"),
        ({"changes": ("kazoo.gain_db=-3",)}, PresetError, "these stems have no kazoo"),
        ({"format": "mp3"}, RequestError, "format 'mp3'.*wav24"),
        ({"speed": 0.2}, RequestError, "speed 0.2 .*0.25 to 4"),
        ({"speed": 4.5}, RequestError, "speed 4.5"),
        ({"speed": float("nan")}, RequestError, "speed nan"),
        ({"pitch": -25.0}, RequestError, "pitch -25 semitones .*-24 to 24"),
        ({"pitch": float("nan")}, RequestError, "pitch nan"),
        ({"file_names": "{name}"}, RequestError, "file_names '{name}': without {stem}"),
        ({"sessions": ("rpp", "als")}, RequestError, "session 'als' .*rpp"),
    ],
)
def test_what_cannot_be_remixed_is_refused_by_name(
    fields: dict[str, object], kind: type[Exception], words: str, request_of: RemixRequest, settings: Settings
) -> None:
    with pytest.raises(kind, match=words) as caught:
        admission.admit(replace(request_of, **fields), settings, "local")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_output_that_is_a_file_is_refused(
    request_of: RemixRequest, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="is a file"):
        admission.admit(request_of, settings, "local")


def test_what_can_be_remixed_is_admitted_with_plain_paths(
    request_of: RemixRequest, settings: Settings, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(OWN_PRESET)
    edges = replace(request_of, speed=0.25, pitch=24, format="flac24", preset=str(preset))
    for request in (request_of, edges, replace(edges, speed=4.0, pitch=-24)):
        odd = replace(request, source=f"{request.source}/../{Path(request.source).name}/")
        assert admission.admit(odd, settings, "local") == request


def test_a_refused_remix_leaves_no_job(crew: Crew, request_of: RemixRequest, tmp_path: Path) -> None:
    crew.start()
    folder = tmp_path / "not a set"
    folder.mkdir()
    (folder / FILE_NAME).write_text("{}")
    with crew.daemon.client() as client:
        with pytest.raises(SourceError, match="is not a manifest"):
            client.submit(replace(request_of, source=str(folder)))
        with pytest.raises(PresetError, match="kazoo"):
            client.submit(replace(request_of, changes=("kazoo.mute=true",)))
        assert client.jobs() == () and client.status().workers[1].starts == 0


def test_another_machine_names_presets_and_values_but_no_files(
    request_of: RemixRequest, settings: Settings, tmp_path: Path
) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(OWN_PRESET)
    allowed = replace(request_of, changes=("bass.gain_db=-3", "tail=extend", "master.match=lufs"))
    assert admission.admit(allowed, settings, "lan") == allowed
    by_path = replace(request_of, preset=str(preset))
    assert admission.admit(by_path, settings, "local") == by_path
    for path in (str(preset), "mine.toml", "/no such/preset", "../mine"):
        with pytest.raises(PresetError, match="was named by its path from another machine"):
            admission.admit(replace(request_of, preset=path), settings, "lan")
    for change in (
        "vocals.effects.0.path=/x.vst3",
        "vocals.plugin.plugin = x",
        "vocals.plugin. state_file =/etc/passwd",
        "sends.hall.plugin.state=AAAA",
        "vocals.convolution.impulse_response=/etc/passwd",
        "vocals.effects = [{kind = 'plugin', path = '/x.vst3'}]",
        "vocals.effects.0.parameters={a = 1}",
    ):
        with pytest.raises(PresetError, match="names a file or a plugin from another machine"):
            admission.admit(replace(request_of, changes=("tail=trim", change)), settings, "lan")


def test_a_signature_covers_the_set_the_preset_and_the_files_it_names(
    request_of: RemixRequest, settings: Settings, stem_set: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes((stem_set / FILE_NAME).read_bytes())
    room, state, preset = tmp_path / "room.wav", tmp_path / "x.state", tmp_path / "mine.toml"
    room.write_bytes(b"one")
    state.write_bytes(b"one")
    effects = (
        f'[[stems.vocals.effects]]\nkind = "convolution"\nimpulse_response = "{room}"\n'
        '[[master.effects]]\nkind = "plugin"\npath = "x.vst3"\nstate_file = "x.state"\n'
    )
    preset.write_text(OWN_PRESET + effects)
    request = replace(request_of, source=str(folder), preset=str(preset))

    def sign() -> str:
        return admission.request_signature(request, settings)

    seen = [sign()]
    assert sign() == seen[0]
    os.utime(preset, (1, 1))
    assert sign() == seen[0], "what is rendered is the same"
    for change in (
        lambda: preset.write_text(OWN_PRESET.replace("-6.0", "-7.0") + effects),
        lambda: state.write_bytes(b"two"),
        lambda: room.write_bytes(b"longer"),
        lambda: os.utime(room, (1, 1)),
        lambda: os.utime(folder / FILE_NAME, (1, 1)),
    ):
        change()
        assert sign() not in seen
        seen.append(sign())
