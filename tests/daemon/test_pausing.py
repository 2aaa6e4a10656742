"""A paused job is put aside with all it has, and others run; its worker or daemon may end meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import zmq

import fake_worker
from daemon_harness import DaemonHarness, wait_until
from model_files import one_thread, small_htdemucs, write_th
from signals import make_noise, to_ints, write_pcm
from splits import make_request, split_to_end
from stembridge.catalog import find_model
from stembridge.cli import main
from stembridge.client import Client
from stembridge.model_store import locate
from stembridge.progress import progress_shown
from stembridge.types import Job, JobState, Progress, SplitRequest
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker_messages import (
    CancelJob,
    Hold,
    JobDone,
    JobError,
    JobPaused,
    JobStopped,
    PauseJob,
    ResumeJob,
)
from worker_bench import SECONDS, WorkerBench

FOREVER_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    context: zmq.Context[Any] = zmq.Context()
    bench = WorkerBench(context, tmp_path)
    yield bench
    bench.supervisor.close(timeout_s=0.5)
    context.term()


def put_aside(bench: WorkerBench, job_id: str = "a") -> None:
    """Pause a job within its second step, and return when the worker has put it aside."""
    bench.begin_gated(job_id)
    bench.tell(PauseJob(job_id))
    bench.open_gate()
    bench.wait_for(lambda: job_id in bench.ended(JobPaused), "the job to be put aside")
    bench.close_gate()


def hidden_folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.name.startswith(".") and path.is_dir())


def test_a_worker_does_another_job_meanwhile_and_goes_on_where_it_stopped(bench: WorkerBench) -> None:
    bench.start()
    put_aside(bench)
    bench.split("b")
    bench.wait_for(lambda: bench.ended(JobDone) == ["b"], "the other job to end")
    assert len(bench.separated("a")) == 2, "the job went on though it was paused"
    assert len(hidden_folders(bench.folder / "out")) == 1, "the other job swept what the paused one has"
    bench.open_gate()
    bench.tell(ResumeJob("a"))
    bench.wait_for(lambda: bench.ended(JobDone) == ["b", "a"], "the paused job to end")
    assert len(bench.separated("a")) == SECONDS, "a step was done twice"
    folders = [report.result.folder for _, report in bench.all_of(JobDone)]
    for stem in ("vocals", "residual"):
        stems = [soundfile.read(Path(folder) / f"x - {stem}.wav")[0] for folder in folders]
        assert (stems[0] == stems[1]).all(), f"{stem} is another one after a pause"


def test_a_job_may_be_paused_again_and_before_it_has_loaded_anything(bench: WorkerBench) -> None:
    bench.start()
    bench.supervisor.send(Hold(FOREVER_S))
    bench.split()
    bench.supervisor.send(PauseJob("a"))
    bench.wait_for(lambda: bench.ended(JobPaused) == ["a"], "the pause, which no hold puts off")
    assert bench.stages() == ["load"]
    bench.supervisor.send(Hold(0))
    for _ in range(2):
        bench.supervisor.send(ResumeJob("a"))
        bench.supervisor.send(PauseJob("a"))
        pauses = len(bench.ended(JobPaused))
        bench.wait_for(lambda pauses=pauses: len(bench.ended(JobPaused)) > pauses, "the next pause")  # type: ignore[misc]
    bench.supervisor.send(ResumeJob("a"))
    bench.wait_for(lambda: bench.ended(JobDone) == ["a"], "the end")
    assert len(bench.separated()) == SECONDS


def test_a_job_that_is_resumed_while_the_worker_is_held_begins_no_step(bench: WorkerBench) -> None:
    bench.start()
    put_aside(bench)
    bench.open_gate()
    bench.tell(Hold(FOREVER_S))
    bench.tell(ResumeJob("a"))
    bench.tell(PauseJob("a"))
    bench.wait_for(lambda: bench.ended(JobPaused) == ["a", "a"], "the pause of a job that was held")
    assert len(bench.separated("a")) == 2, "a step began under a hold"
    bench.tell(ResumeJob("a"))
    bench.tell(Hold(0))
    bench.wait_for(lambda: bench.ended(JobDone) == ["a"], "the end")
    assert len(bench.separated("a")) == SECONDS


def test_a_job_that_is_cancelled_before_the_worker_has_resumed_it_ends_once(bench: WorkerBench) -> None:
    bench.start()
    put_aside(bench)
    bench.supervisor.send(CancelJob("a"))
    bench.supervisor.send(ResumeJob("a"))
    bench.split("b")
    bench.wait_for(lambda: bench.ended(JobDone) == ["b"], "the next job")
    assert bench.ended(JobStopped) == ["a"] and not bench.ended(JobError)


def test_a_job_that_was_put_aside_is_cancelled_at_once_whatever_the_worker_does(bench: WorkerBench) -> None:
    bench.start()
    put_aside(bench, "idle")
    bench.tell(CancelJob("idle"))
    bench.wait_for(lambda: bench.ended(JobStopped) == ["idle"], "the cancel while the worker is idle")
    put_aside(bench, "held")
    bench.begin_gated("b")
    bench.tell(Hold(FOREVER_S))
    bench.open_gate()
    bench.wait_for(lambda: len(bench.separated("b")) == 2, "the other job to be held")
    assert len(hidden_folders(bench.folder / "out")) == 2
    bench.tell(CancelJob("held"))
    bench.wait_for(lambda: bench.ended(JobStopped) == ["idle", "held"], "the cancel under a hold")
    assert len(hidden_folders(bench.folder / "out")) == 1, "what was cancelled is still there"
    bench.tell(Hold(0))
    bench.wait_for(lambda: bench.ended(JobDone) == ["b"], "the other job to end")


def test_two_jobs_that_share_a_model_step_by_step_get_the_stems_that_each_gets_alone(tmp_path: Path) -> None:
    write_th(small_htdemucs(3), tmp_path, "955717e8")
    files = locate(find_model("htdemucs"), [tmp_path])
    assert files is not None
    requests = []
    for seconds, shifts in ((3, 0), (2, 1)):
        samples = to_ints(make_noise(seconds * 44_100, 2), 16)
        source = write_pcm(tmp_path / f"{seconds}.wav", samples, 44_100, 16)
        requests.append(make_request(source, tmp_path / "alone", shifts=shifts, listen_from=60_000))
    with one_thread():
        separator = load_separator("htdemucs", files)
        alone = [split_to_end(request, separator)[0].folder for request in requests]
        both = [
            run_split("job", replace(request, out=str(tmp_path / f"both-{number}")), separator)
            for number, request in enumerate(requests)
        ]
        ended: list[str] = []
        while both:
            for steps in list(both):
                try:
                    next(steps)
                except StopIteration as end:
                    ended.append(end.value.folder)
                    both.remove(steps)
    for folder in ended:
        (twin,) = [Path(one) for one in alone if Path(one).name == Path(folder).name]
        names = sorted(path.name for path in twin.glob("*.wav"))
        assert len(names) == 5
        for name in names:
            assert (twin / name).read_bytes() == (Path(folder) / name).read_bytes(), name


def test_whoever_waits_for_a_job_sees_that_it_is_paused(capsys: pytest.CaptureFixture[str]) -> None:
    request = SplitRequest("/m/song.wav", "/m/out", "preview")
    running = Job("a", request, JobState.RUNNING, 0.0, Progress("separate", 0.3, 20.0))
    with progress_shown() as show:
        for job in (running, replace(running, is_paused=True), running):
            show(job)
    goes_on = "song.wav: separate 30 % 20 s left"
    assert capsys.readouterr().err.splitlines() == [goes_on, "song.wav: paused 30 %", goes_on]


class Desk:
    """A daemon with a gated worker, a client, and songs to split."""

    def __init__(self, daemon: DaemonHarness, client: Client, folder: Path) -> None:
        self.daemon, self.client, self.folder = daemon, client, folder
        self.out = folder / "out"
        samples = to_ints(make_noise(3 * 44_100, 2), 16)
        self._source = str(write_pcm(folder / "song.wav", samples, 44_100, 16))

    def submit(self, job_id: str, *, is_gated: bool = True, listen_from: int | None = None) -> None:
        seed = fake_worker.GATED if is_gated else 0
        request = SplitRequest(self._source, str(self.out), "preview", seed=seed, listen_from=listen_from)
        self.client.submit(request, job_id)

    def begin(self, job_id: str, *, listen_from: int | None = None) -> None:
        """Submit a job and return when it waits at the gate."""
        self.submit(job_id, listen_from=listen_from)
        wait_until(lambda: self.stage(job_id) == "separate", f"{job_id} to separate")

    def put_aside(self, job_id: str) -> None:
        """Pause a job that waits at the gate, and return when it is put aside."""
        assert main(["jobs", "pause", job_id]) == 0
        self.wait_for_pause()
        self.gate.touch()
        wait_until(lambda: job_id in self.aside(), f"{job_id} to be put aside")
        self.gate.unlink()

    def wait_for_pause(self) -> None:
        """Return when the worker has heard of a pause; a gate that opens earlier may let the job end."""
        heard = fake_worker.pause_file(self.gate)
        wait_until(heard.exists, "the worker to hear of the pause")
        heard.unlink()

    def stage(self, job_id: str) -> str:
        progress = self.client.get(job_id).progress
        return progress.stage if progress else ""

    def aside(self) -> tuple[str, ...]:
        return self.client.status().workers[0].paused

    def states(self, *job_ids: str) -> list[tuple[str, bool]]:
        return [(job.state.value, job.is_paused) for job in map(self.client.get, job_ids)]

    def wait(self, job_id: str) -> Job:
        return self.client.wait(job_id, 60)

    @property
    def gate(self) -> Path:
        return self.folder / "gate"


@pytest.fixture
def desk(daemon: DaemonHarness, tmp_path: Path) -> Iterator[Desk]:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with daemon.client() as client:
        yield Desk(daemon, client, tmp_path)


def test_jobs_that_are_paused_let_others_by_and_are_shown_as_paused(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.begin("running")
    desk.submit("waiting", is_gated=False)
    assert main(["jobs", "pause", "wait", "runn"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["waiting", "running"]
    assert all(" paused" in line for line in told) and "left" not in told[1]
    desk.wait_for_pause()
    desk.gate.touch()
    desk.submit("third", is_gated=False)
    assert desk.wait("third").state is JobState.DONE
    assert desk.states("running", "waiting") == [("running", True), ("queued", True)]
    assert main(["daemon", "status"]) == 0
    status = capsys.readouterr().out
    assert "idle" in status and "1 put aside" in status and status.splitlines()[-2].endswith("; 2 paused")
    assert main(["jobs", "resume", "running", "waiting"]) == 0
    assert "paused" not in capsys.readouterr().out
    for job_id in ("running", "waiting"):
        assert desk.wait(job_id).state is JobState.DONE
    assert desk.client.get("running").attempt == 1, "it began anew"
    story = [line.text.split()[0] for line in desk.client.get("running").story]
    assert story == ["accepted", "attempt", "paused", "resumed", "done"]
    assert hidden_folders(desk.out) == []


def test_whoever_asks_for_a_paused_job_is_told_that_and_what_can_be_heard_of_it(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.begin("one", listen_from=60_000)
    desk.put_aside("one")
    capsys.readouterr()
    assert main(["jobs", "show", "one"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("listen: ")]
    early = desk.client.get("one").early
    assert early is not None and len(told) == len(early.stems) == 4
    for line, stem in zip(told, early.stems, strict=True):
        assert f"{stem.path} ({stem.name}), from 0:01.0 for 1.0 s" in line and Path(stem.path).is_file()
    with pytest.raises(
        TimeoutError, match=r"not final after 0 s: it is paused \(stembridge jobs resume one\)"
    ):
        desk.client.wait("one", 0)
    assert main(["jobs", "resume", "one"]) == 0
    with pytest.raises(TimeoutError, match=r"not final after 0 s$"):
        desk.client.wait("one", 0)
    desk.gate.touch()
    desk.wait("one")
    capsys.readouterr()
    assert main(["jobs", "show", "one"]) == 0
    assert "listen: " not in capsys.readouterr().out


def test_nothing_is_paused_where_one_of_the_ids_is_wrong_and_what_is_over_stays_so(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.begin("one")
    assert main(["jobs", "pause", "one", "nonesuch"]) == 4
    assert desk.states("one") == [("running", False)]
    desk.gate.touch()
    desk.wait("one")
    capsys.readouterr()
    assert main(["jobs", "pause", "one"]) == 0 and main(["jobs", "resume", "one"]) == 0
    assert [" done" in line for line in capsys.readouterr().out.splitlines()] == [True, True]


def test_a_job_that_was_put_aside_is_cancelled_while_another_runs(desk: Desk) -> None:
    desk.begin("aside")
    desk.put_aside("aside")
    desk.begin("running")
    assert main(["jobs", "cancel", "aside"]) == 0
    assert desk.states("running") == [("running", False)]
    desk.gate.touch()
    desk.wait("running")
    wait_until(lambda: desk.states("aside") == [("cancelled", False)], "the cancel")
    assert desk.aside() == () and hidden_folders(desk.out) == []


def test_a_worker_that_dies_counts_against_the_job_that_ran_and_not_against_one_that_was_paused(
    desk: Desk,
) -> None:
    desk.begin("aside")
    desk.put_aside("aside")
    desk.begin("running")
    os.kill(desk.daemon.worker_pid(), signal.SIGKILL)
    wait_until(lambda: desk.client.get("running").attempt == 2, "the next attempt")
    stories = {
        job_id: " ".join(line.text for line in desk.client.get(job_id).story)
        for job_id in ("aside", "running")
    }
    assert "1 of 3" in stories["running"] and "of 3" not in stories["aside"]
    assert desk.states("aside") == [("queued", True)]
    desk.gate.touch()
    desk.wait("running")
    assert desk.states("aside") == [("queued", True)]
    desk.client.resume("aside")
    assert desk.wait("aside").attempt == 2
    assert hidden_folders(desk.out) == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_pause_outlives_the_daemon(desk: Desk, is_killed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    desk.begin("aside")
    desk.submit("waiting", is_gated=False)
    desk.client.pause("waiting")
    desk.put_aside("aside")
    (process,) = desk.daemon.processes
    desk.daemon.worker_pid()
    if is_killed:
        desk.daemon.kill(process)
    else:
        capsys.readouterr()
        assert main(["daemon", "stop"]) == 0
        told = capsys.readouterr().out
        assert "is running" not in told and "what waits is kept" in told
        assert process.wait(30) == 0 and hidden_folders(desk.out) == []
    desk.daemon.start(worker=fake_worker.command(desk.gate))
    assert desk.states("aside", "waiting") == [("queued", True)] * 2
    assert "daemon ended" not in desk.client.get("aside").story[-1].text
    desk.gate.touch()
    assert main(["jobs", "resume", "waiting", "aside"]) == 0
    assert [desk.wait(job_id).attempt for job_id in ("aside", "waiting")] == [2, 1]
    assert hidden_folders(desk.out) == []
