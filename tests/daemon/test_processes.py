"""Real daemons, real workers, real kills: nothing accepted is lost, nothing is torn, nothing comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness, is_alive, wait_until
from stembridge.client import Client, new_job_id
from stembridge.errors import (
    Busy,
    IdConflict,
    JobCancelled,
    JobNotFound,
    ModelError,
    SourceError,
    StembridgeError,
)
from stembridge.manifest import read_manifest
from stembridge.null_test import check_result
from stembridge.types import Job, JobState, SplitRequest

FAILPOINTS_OF_FRONT = (
    "front-before-commit",
    "front-after-commit",
    "front-after-dispatch",
    "front-before-done",
    "front-after-done",
)
FAILPOINTS_OF_WORKER = (
    "worker-start",
    "pipeline-read",
    "pipeline-mid-write",
    "pipeline-before-manifest",
    "pipeline-before-rename",
    "pipeline-after-rename",
)


def make_request(song: Path, out: Path, seed: int = 0) -> SplitRequest:
    return SplitRequest(source=str(song), out=str(out), model="preview", seed=seed)


def audio_hashes(folder: str | Path) -> dict[str, str]:
    return {stem.name: stem.sha256 for stem in read_manifest(Path(folder)).stems}


def assert_whole(jobs: Sequence[Job], out: Path, expected: Sequence[dict[str, str]]) -> None:
    """Every job has its one folder, with the right audio, and nothing else lies in ``out``."""
    folders = [Path(job.result.folder) for job in jobs if job.result is not None]
    assert len(folders) == len(jobs)
    assert sorted(out.iterdir()) == sorted(folders)
    for job, folder, hashes in zip(jobs, folders, expected, strict=True):
        report = check_result(folder)
        assert report.holds and report.error_f64 == 0.0, report.failures
        assert audio_hashes(folder) == hashes
        assert read_manifest(folder).job == job.id


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three songs of a second or two, so that a wrong result cannot pass for the right one."""
    from stembridge.synthesis import make_song

    folder = tmp_path_factory.mktemp("songs")
    paths = []
    for seed, seconds in ((1, 1.5), (2, 1.0), (3, 1.2)):
        song = make_song(seed, seconds=seconds)
        paths.append(folder / f"song {seed}.wav")
        soundfile.write(paths[-1], song.mixture.T, song.sample_rate, subtype="PCM_24")
    return paths


@pytest.fixture(scope="module")
def expected(songs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The right audio of every song, from a daemon that nobody disturbs."""
    home = tmp_path_factory.mktemp("undisturbed")
    harness = DaemonHarness(home)
    try:
        harness.start()
        with harness.client() as client:
            jobs = [client.submit(make_request(song, home / "out")) for song in songs]
            done = [client.wait(job.id, 120) for job in jobs]
        return [audio_hashes(job.result.folder) for job in done if job.result is not None]
    finally:
        harness.close()


@pytest.mark.parametrize("point", [*FAILPOINTS_OF_FRONT, *FAILPOINTS_OF_WORKER])
def test_a_kill_at_any_point_loses_tears_and_doubles_nothing(
    point: str,
    daemon: DaemonHarness,
    songs: list[Path],
    expected: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    once, out = tmp_path / "once", tmp_path / "out"
    process = daemon.start(failpoint=point, once=once)
    ids = [new_job_id() for _ in songs]
    # Clients of a daemon that dies under them: they start the next one and come back by job id.
    with daemon.client(start=True) as client:
        for job_id, song in zip(ids, songs, strict=True):
            client.submit(make_request(song, out), job_id)
        jobs = [client.wait(job_id, 120) for job_id in ids]
        assert once.exists(), "the failpoint was never reached"
        if point in FAILPOINTS_OF_FRONT:
            assert process.wait() == -signal.SIGKILL
        else:
            assert process.poll() is None
        assert_whole(jobs, out, expected)
        if point == "pipeline-after-rename":
            # The result was published: the second attempt finds it and does not separate again.
            assert jobs[0].attempt == 2
    daemon.adopt()


@pytest.mark.parametrize("point", FAILPOINTS_OF_WORKER)
def test_front_and_worker_killed_together_lose_nothing(
    point: str, daemon: DaemonHarness, songs: list[Path], expected: list[dict[str, str]], tmp_path: Path
) -> None:
    once, out = tmp_path / "once", tmp_path / "out"
    process = daemon.start(failpoint=point, once=once)
    ids = [new_job_id() for _ in songs]
    with daemon.client() as client:
        for job_id, song in zip(ids, songs, strict=True):
            client.submit(make_request(song, out), job_id)
    wait_until(once.exists, "the worker's end")
    daemon.kill(process)
    daemon.start()
    with daemon.client() as client:
        jobs = [client.wait(job_id, 120) for job_id in ids]
        daemon.worker_pid()
    assert_whole(jobs, out, expected)


def test_a_worker_does_not_outlive_its_front(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    process = daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with daemon.client() as client:
        client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.GATED))
        worker = daemon.worker_pid()
        daemon.kill(process)
    wait_until(lambda: not is_alive(worker), "the worker to follow its front")


def test_a_job_that_kills_its_worker_is_put_aside_and_the_next_one_runs(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with daemon.client() as client:
        poison = client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.POISON))
        after = client.submit(make_request(songs[1], tmp_path / "out"))
        assert client.wait(after.id, 60).state is JobState.DONE
        with pytest.raises(StembridgeError, match=r"died 3 times.*SIGKILL") as caught:
            client.wait(poison.id, 60)
        assert caught.value.code == "quarantined"
        told = [line.text for line in client.get(poison.id).story]
        assert sum("worker died" in text for text in told) == 2 and "quarantined" in told[-1]
        assert client.get(poison.id).attempt == 3
        daemon.worker_pid()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_cancel_takes_effect_within_one_step_and_leaves_nothing(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.start(worker=fake_worker.command(gate))
    with daemon.client() as client:
        job = client.submit(make_request(songs[0], out, seed=fake_worker.GATED))
        waiting = client.submit(make_request(songs[1], out))
        for seen in client.events(job.id):
            if seen.progress is not None and seen.progress.stage == "separate":
                break
        assert all(path.name.startswith(".") for path in out.iterdir()) and any(out.iterdir())
        assert client.cancel(waiting.id).state is JobState.CANCELLED
        client.cancel(job.id)
        gate.touch()
        with pytest.raises(JobCancelled):
            client.wait(job.id, 60)
        assert not out.exists()
        worker = daemon.worker_pid()
        again = client.submit(make_request(songs[2], out))
        assert client.wait(again.id, 60).state is JobState.DONE
        assert daemon.worker_pid() == worker, "a cancel must not cost the loaded model"


def test_sigterm_requeues_what_runs_and_the_next_start_finishes_it(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text("stop_grace_s = 0.1\n")
    process = daemon.start(worker=fake_worker.command(gate))
    with daemon.client() as client:
        job = client.submit(make_request(songs[0], out, seed=fake_worker.GATED))
        for seen in client.events(job.id):
            if seen.progress is not None and seen.progress.stage == "separate":
                break
        daemon.worker_pid()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    gate.touch()
    daemon.start(worker=fake_worker.command(gate))
    with daemon.client() as client:
        assert client.wait(job.id, 60).state is JobState.DONE
        daemon.worker_pid()
    assert [path.name.startswith(".") for path in out.iterdir()] == [False]


def test_sigterm_lets_a_short_job_finish(daemon: DaemonHarness, songs: list[Path], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    process = daemon.start(worker=fake_worker.command(gate))
    with daemon.client() as client:
        job = client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.GATED))
        daemon.worker_pid()
        for seen in client.events(job.id):
            if seen.progress is not None and seen.progress.stage == "separate" and not gate.exists():
                process.send_signal(signal.SIGTERM)
                gate.touch()
    assert seen.state is JobState.DONE
    assert process.wait(30) == 0


def test_a_second_daemon_ends_and_the_first_is_named(daemon: DaemonHarness) -> None:
    first = daemon.start()
    assert daemon.start().wait(30) == 75
    started = subprocess.run(
        [sys.executable, "-c", "from stembridge.cli import run; run()", "daemon", "start"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0
    assert str(first.pid) in started.stdout


def test_many_clients_at_once_start_one_daemon(daemon: DaemonHarness) -> None:
    pids: list[int] = []

    def ask() -> None:
        with daemon.client(start=True) as client:
            pids.append(client.status().pid)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    daemon.adopt()
    assert len(pids) == 12 and len(set(pids)) == 1


def test_two_clients_at_once_each_get_their_own(
    daemon: DaemonHarness, songs: list[Path], expected: list[dict[str, str]], tmp_path: Path
) -> None:
    daemon.start()
    found: dict[int, list[Job]] = {}

    def split(number: int) -> None:
        with daemon.client() as client:
            jobs = [client.submit(make_request(song, tmp_path / f"out{number}")) for song in songs]
            found[number] = [client.wait(job.id, 120) for job in jobs]

    threads = [threading.Thread(target=split, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (1, 2):
        assert_whole(found[number], tmp_path / f"out{number}", expected)
    daemon.worker_pid()


def test_many_splits_load_the_model_once_in_one_worker(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start()
    with daemon.client() as client:
        for number in range(8):
            client.wait(client.submit(make_request(songs[number % 3], tmp_path / "out")).id, 60)
        worker, rendering = client.status().workers
    assert (worker.model_loads, worker.starts, worker.models) == (1, 1, ("preview",))
    assert worker.pid == daemon.worker_pid()
    assert (rendering.role, rendering.state, rendering.starts) == ("render", "absent", 0)


def test_an_idle_worker_is_unloaded_and_comes_back(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start("--keep-alive", "0.2")
    with daemon.client() as client:
        client.wait(client.submit(make_request(songs[0], tmp_path / "out")).id, 60)
        wait_until(lambda: client.status().workers[0].state == "absent", "the idle worker to be unloaded")
        client.wait(client.submit(make_request(songs[1], tmp_path / "out")).id, 60)
        assert client.status().workers[0].starts == 2


def test_a_repeated_submit_is_the_same_job_and_another_request_a_conflict(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    request = make_request(songs[0], tmp_path / "out")
    with daemon.client() as client:
        job_id = new_job_id()
        client.submit(request, job_id)
        client.submit(request, job_id)
        client.wait(job_id, 60)
        assert client.submit(request, job_id).state is JobState.DONE
        with pytest.raises(IdConflict):
            client.submit(replace(request, overlap=0.5), job_id)
        assert len(client.jobs()) == 1
        assert len(list((tmp_path / "out").iterdir())) == 1
        daemon.worker_pid()


def test_the_queue_has_an_end(daemon: DaemonHarness, songs: list[Path], tmp_path: Path) -> None:
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text("max_queue = 2\n")
    gate = tmp_path / "gate"
    daemon.start(worker=fake_worker.command(gate))
    with daemon.client() as client:
        first = client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.GATED))
        wait_until(lambda: client.get(first.id).state is JobState.RUNNING, "the first job to run")
        for _ in range(2):
            client.submit(make_request(songs[1], tmp_path / "out"))
        with pytest.raises(Busy, match="2 jobs are waiting"):
            client.submit(make_request(songs[1], tmp_path / "out"))
        gate.touch()
        daemon.worker_pid()


def test_what_cannot_be_split_is_refused_by_name_and_the_daemon_goes_on(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start()
    good = make_request(songs[0], tmp_path / "out")
    empty = tmp_path / "empty.wav"
    empty.touch()
    text = tmp_path / "name with 'quotes' $x\n曲.wav"
    text.write_text("no audio at all")
    with daemon.client() as client:
        for request, kind, words in (
            (replace(good, source=str(tmp_path / "missing.wav")), SourceError, "missing.wav"),
            (replace(good, source=str(empty)), SourceError, "empty.wav"),
            (replace(good, source=str(tmp_path)), SourceError, "folder"),
            (replace(good, source="relative.wav"), StembridgeError, "absolute"),
            (replace(good, source="/nul\0byte"), StembridgeError, "source"),
            (replace(good, model="nonesuch"), ModelError, "nonesuch"),
            (replace(good, model="/etc/passwd"), ModelError, "/etc/passwd"),
            (replace(good, model="htdemucs"), ModelError, "models fetch htdemucs"),
            (replace(good, stems=("kazoo",)), StembridgeError, "kazoo"),
            (replace(good, stems=("vocals",), two_stems="vocals"), StembridgeError, "exclude"),
            (replace(good, overlap=1.5), StembridgeError, "1.5"),
            (replace(good, shifts=99), StembridgeError, "99"),
            (replace(good, out=str(empty)), StembridgeError, "empty.wav"),
        ):
            with pytest.raises(kind) as caught:
                client.submit(request)
            assert words in str(caught.value) and "\n" not in repr(caught.value.message)
        assert client.jobs() == ()
        failed = client.submit(replace(good, source=str(text)))
        with pytest.raises(SourceError) as caught:
            client.wait(failed.id, 60)
        assert "曲" in caught.value.message and "\n" not in caught.value.message
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
        with pytest.raises(JobNotFound):
            client.get("nonesuch")
        assert client.wait(client.submit(good).id, 60).state is JobState.DONE
        daemon.worker_pid()


def test_over_tcp_only_the_key_of_this_user_gets_in(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    import zmq

    from stembridge import protocol
    from stembridge.transport import read_connection

    daemon.start("--transport", "tcp")
    connection = read_connection(daemon.settings.connection_file)
    assert connection is not None and connection.endpoint.startswith("tcp://127.0.0.1:")
    assert daemon.settings.connection_file.stat().st_mode & 0o777 == 0o600
    with daemon.client() as client:
        done = client.wait(client.submit(make_request(songs[0], tmp_path / "out")).id, 60)
        assert done.state is JobState.DONE
    context = zmq.Context()
    try:
        stranger_public, stranger_secret = zmq.curve_keypair()
        strangers = [{}, {zmq.CURVE_PUBLICKEY: stranger_public, zmq.CURVE_SECRETKEY: stranger_secret}]
        for options in strangers:
            with context.socket(zmq.DEALER) as socket:
                socket.setsockopt(zmq.LINGER, 0)
                if options:
                    socket.setsockopt(zmq.CURVE_SERVERKEY, connection.server_key.encode())
                for name, value in options.items():
                    socket.setsockopt(name, value)
                socket.connect(connection.endpoint)
                socket.send_multipart(protocol.encode(protocol.Ping()))
                assert socket.poll(500) == 0, "a stranger was answered"
    finally:
        context.term()
    daemon.worker_pid()


def test_the_socket_is_in_a_folder_that_only_its_user_can_enter(daemon: DaemonHarness) -> None:
    daemon.start()
    assert daemon.settings.runtime_dir.stat().st_mode & 0o777 == 0o700
    daemon.settings.runtime_dir.chmod(0o755)
    with daemon.client() as client:
        client.ping()
    assert daemon.settings.runtime_dir.stat().st_mode & 0o777 == 0o700


def test_a_home_with_a_very_long_path_still_gets_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = DaemonHarness(tmp_path / ("long" * 30) / "home")
    try:
        harness.start()
        with harness.client() as client:
            client.ping()
    finally:
        harness.close()


def test_a_client_of_another_major_version_is_told_both(daemon: DaemonHarness) -> None:
    import zmq

    from stembridge import protocol
    from stembridge.transport import connect, read_connection

    daemon.start()
    connection = read_connection(daemon.settings.connection_file)
    assert connection is not None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with connect(context, connection) as socket:
            socket.send_multipart([b"SB2", b"{}"])
            assert socket.poll(5000)
            reply = protocol.decode_reply(socket.recv_multipart())
    finally:
        context.term()
    assert isinstance(reply, protocol.Error) and reply.code == "bad_protocol"
    assert "protocol 2" in reply.message and "speaks 1" in reply.message


def test_without_a_daemon_a_client_that_may_not_start_one_says_so(home: Path) -> None:
    with Client(start=False) as client, pytest.raises(StembridgeError, match="no daemon is running"):
        client.ping()


def test_a_daemon_that_cannot_start_says_why(daemon: DaemonHarness) -> None:
    daemon.settings.state_dir.mkdir(parents=True)
    daemon.settings.job_table.write_bytes(b"garbage" * 1000)
    with daemon.client(start=True) as client, pytest.raises(StembridgeError, match="job table"):
        client.ping()
    assert daemon.settings.job_table.read_bytes() == b"garbage" * 1000
    assert not os.path.lexists(daemon.settings.connection_file)


def test_a_worker_that_cannot_be_started_fails_its_jobs_and_the_daemon_goes_on(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    process = daemon.start(worker=[str(tmp_path / "no such program")])
    with daemon.client() as client:
        job = client.submit(make_request(songs[0], tmp_path / "out"))
        with pytest.raises(StembridgeError, match="no such program"):
            client.wait(job.id, 30)
        client.ping()
    assert process.poll() is None


def test_a_stopped_worker_and_a_flood_of_cancels_do_not_stop_the_front(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    daemon.start(worker=fake_worker.command(gate))
    with daemon.client(deadline_s=5.0) as client:
        job = client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.GATED))
        wait_until(lambda: client.get(job.id).state is JobState.RUNNING, "the job to run")
        worker = daemon.worker_pid()
        os.kill(worker, signal.SIGSTOP)
        try:
            for _ in range(3000):
                client.cancel(job.id)
            client.ping()
        finally:
            os.kill(worker, signal.SIGCONT)
        gate.touch()
        with pytest.raises(JobCancelled):
            client.wait(job.id, 30)


def test_a_call_that_is_not_understood_is_answered_at_once(daemon: DaemonHarness) -> None:
    daemon.start()
    with daemon.client(deadline_s=5.0) as client, pytest.raises(StembridgeError, match="grace_s") as caught:
        client.stop(float("nan"))
    assert caught.value.code == "bad_request"


def test_hundreds_of_jobs_are_listed_and_one_is_found_by_the_start_of_its_id(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stembridge.cli import main

    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text("max_queue = 1000\n")
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with daemon.client() as client:
        first = client.submit(make_request(songs[0], tmp_path / "out", seed=fake_worker.GATED), "a-first")
        for number in range(600):
            client.submit(make_request(songs[1], tmp_path / "out"), f"b{number}")
        assert len(client.jobs(1000)) == 601
        assert main(["jobs", "-n", "1000"]) == 0
        assert main(["jobs", "show", "a-"]) == 0
        assert first.id[:8] in capsys.readouterr().out
        assert main(["jobs", "cancel", "b1"]) == 1
        assert main(["jobs", "cancel", ""]) == 1
        assert capsys.readouterr().err.count("may be any of several") == 2
        assert client.get("b1").state is JobState.QUEUED
        daemon.worker_pid()


def test_events_of_one_job_are_not_lost_while_another_is_asked_for(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with daemon.client() as client:
        jobs = [client.submit(make_request(songs[0], tmp_path / "out"), watch=True) for _ in range(12)]
        ended = [job.id for job in client.events(*(job.id for job in jobs)) if job.state.is_final]
        assert sorted(ended) == sorted(job.id for job in jobs)
        daemon.worker_pid()


def test_an_order_from_another_version_ends_the_worker(tmp_path: Path) -> None:
    command = fake_worker.command(tmp_path / "gate")
    done = subprocess.run(command, input=b'{"t":"dance"}\n', capture_output=True, timeout=30, check=False)
    assert done.returncode == 1 and b"another version" in done.stderr
