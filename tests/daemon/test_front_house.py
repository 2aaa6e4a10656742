"""The daemon as REAPER's desk sees it: the promises of `House`, kept by a real service."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import zmq

from fakes import FakeSeparator
from splits import make_request, split_to_end
from stembridge import protocol
from stembridge.errors import Busy, IdConflict, ModelError, PresetError, RequestError, SourceError
from stembridge.reaper.house import House
from stembridge.reaper.requests import find_job_id
from stembridge.settings import load_settings
from stembridge.types import JobState, Precision, Region, RemixRequest, SplitRequest, SplitResult
from stembridge_daemon.errands import Errands
from stembridge_daemon.front_house import FrontHouse
from stembridge_daemon.jobstore import JobStore
from stembridge_daemon.lane import Lane
from stembridge_daemon.scheduler import JobKind
from stembridge_daemon.service import Service
from stembridge_daemon.supervisor import Supervisor


class Front:
    """A house over real parts whose worker is never started; `restart` is a new daemon after a kill."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = load_settings(home=folder / "home", environ={}, **settings)
        self.context: zmq.Context[Any] = zmq.Context()
        log, context = self.settings.worker_log_file, self.context
        self.lanes = [Lane(kind, Supervisor([sys.executable], {}, log, context)) for kind in JobKind]
        self.errands = Errands(self.settings)
        source = folder / "song.wav"
        soundfile.write(source, np.zeros((100, 2)), 44_100)
        self.request = SplitRequest(str(source), str(folder / "out"), "preview")
        self.open()

    def open(self) -> None:
        self.store = JobStore(self.settings.job_table)
        self.service = Service(
            self.settings, self.store, self.lanes, endpoint="test", on_change=lambda _job: None
        )
        self.house: House = FrontHouse(self.settings, self.service, self.errands, "local")

    def restart(self) -> None:
        self.store.close()
        self.open()

    def end(self, job_id: str, state: JobState, result: SplitResult | None = None) -> None:
        """Let a job have ended while nobody looked."""
        self.service.flush()
        record = self.store.get(job_id)
        assert record is not None
        self.store.save(replace(record, state=state, result=result))
        self.store.commit()
        self.restart()

    def close(self) -> None:
        self.errands.close()
        for lane in self.lanes:
            lane.supervisor.close(timeout_s=1.0)
        self.store.close()
        self.context.term()


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.close()


def test_a_job_is_submitted_found_listed_and_cancelled(front: Front) -> None:
    house = front.house
    assert house.find_job("a") is None
    assert house.submit(front.request, "a").state is JobState.QUEUED
    assert house.submit(front.request, "a").id == "a", "the same again is the same"
    house.submit(front.request, "b")
    front.service.flush()
    assert [job.id for job in house.list_jobs(9)] == ["b", "a"]
    assert [job.id for job in house.list_jobs(1)] == ["b"]
    house.cancel_job("a")
    found = house.find_job("a")
    assert found is not None and found.state is JobState.CANCELLED
    with pytest.raises(RequestError, match="never"):
        house.cancel_job("never")


def test_a_job_outlives_the_daemon(front: Front) -> None:
    front.house.submit(front.request, "a")
    front.service.flush()
    front.restart()
    found = front.house.find_job("a")
    assert found is not None and found.request == front.request
    assert front.house.submit(front.request, "a").id == "a"


def test_what_is_wrong_with_a_request_is_said(front: Front, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.wav"):
        front.house.submit(replace(front.request, source=str(tmp_path / "gone.wav")), "a")
    with pytest.raises(ModelError, match="htdemucs"):
        front.house.submit(replace(front.request, model="htdemucs"), "a")
    front.house.submit(front.request, "a")
    with pytest.raises(IdConflict, match="another request"):
        front.house.submit(replace(front.request, region=Region(0, 10)), "a")


def test_a_full_queue_refuses(tmp_path: Path) -> None:
    front = Front(tmp_path, max_queue=1)
    front.house.submit(front.request, "a")
    with pytest.raises(Busy):
        front.house.submit(front.request, "b")
    front.close()


def test_a_model_is_here_once_its_files_are(front: Front) -> None:
    house = front.house
    assert house.has_model("preview")
    assert not house.has_model("htdemucs")
    assert not house.has_model("no such model")
    folder = house.settings.model_dirs[0]
    folder.mkdir(parents=True)
    (folder / "955717e8.safetensors").touch()
    assert house.has_model("htdemucs")


def test_a_cost_is_what_was_measured_on_this_device(tmp_path: Path) -> None:
    front = Front(tmp_path, device="cpu")
    full, half = Precision.FULL, Precision.HALF
    assert front.house.cost_of("htdemucs", full) is None
    front.store.save_speed("htdemucs", "cpu", 0.25)
    front.store.save_speed("htdemucs_6s", "cuda:0", 9.0)
    front.store.commit()
    assert front.house.cost_of("htdemucs", full) == 0.25
    assert front.house.cost_of("htdemucs_6s", full) is None
    assert front.house.cost_of("htdemucs", half) is None
    front.store.save_speed("htdemucs half", "cpu", 0.1)
    front.store.commit()
    assert (front.house.cost_of("htdemucs", half), front.house.cost_of("htdemucs", full)) == (0.1, 0.25)
    front.close()


def test_a_signature_changes_with_the_file(front: Front) -> None:
    before = front.house.signature_of(front.request.source)
    assert front.house.signature_of(front.request.source) == before
    soundfile.write(front.request.source, np.zeros((101, 2)), 44_100)
    assert front.house.signature_of(front.request.source) != before
    Path(front.request.source).unlink()
    with pytest.raises(SourceError):
        front.house.signature_of(front.request.source)


def test_a_hold_is_passed_on(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []
    for lane in front.lanes:
        monkeypatch.setattr(lane.supervisor, "hold", held.append)
    front.house.hold(2.0)
    assert held == [2.0, 2.0], "a render takes as much of the machine as a split"


def test_a_remix_is_submitted_as_a_split_is(front: Front, tmp_path: Path) -> None:
    result, _ = split_to_end(make_request(tmp_path / "song.wav", tmp_path), FakeSeparator())
    remix = RemixRequest(result.folder, str(tmp_path / "out"), "drum-punch", stems_out=True)
    first = find_job_id(front.house, remix)
    job = front.house.submit(remix, first)
    assert (job.remix, job.request, job.state) == (remix, None, JobState.QUEUED)
    assert front.house.submit(remix, find_job_id(front.house, remix)).id == first
    front.service.flush()
    assert find_job_id(front.house, replace(remix, preset="clean-bleed")) != first
    with pytest.raises(PresetError, match="no such"):
        front.house.submit(replace(remix, preset="no such"), "b")


def test_a_remix_is_another_job_when_what_it_is_made_of_changes(front: Front, tmp_path: Path) -> None:
    result, _ = split_to_end(make_request(tmp_path / "song.wav", tmp_path), FakeSeparator())
    folder = front.house.settings.config_file.parent / "presets"
    folder.mkdir(parents=True)
    head = '[preset]\nname = "Room"\nuse = "x"\n'
    effect = '[[stems.vocals.effects]]\nkind = "convolution"\nimpulse_response = "room.wav"\n'
    (folder / "room.toml").write_text(head + effect, "utf-8")
    soundfile.write(folder / "room.wav", np.ones((9, 1)), 44_100)
    remix = RemixRequest(result.folder, str(tmp_path / "out"), "room", stems_out=True)
    ids = [find_job_id(front.house, remix)]
    soundfile.write(folder / "room.wav", np.ones((10, 1)), 44_100)
    ids.append(find_job_id(front.house, remix))
    (folder / "room.toml").write_text(head + effect + "mix = 0.5\n", "utf-8")
    ids.append(find_job_id(front.house, remix))
    document = Path(result.folder) / "stems.json"
    document.write_text(document.read_text("utf-8") + "\n", "utf-8")
    ids.append(find_job_id(front.house, remix))
    assert len(set(ids)) == 4


def test_a_remix_that_somebody_else_renders_is_a_job_among_the_others(front: Front, tmp_path: Path) -> None:
    result, _ = split_to_end(make_request(tmp_path / "song.wav", tmp_path), FakeSeparator())
    remix = RemixRequest(result.folder, str(tmp_path / "out"), "karaoke")
    front.service.answer(protocol.Remix(id="remix", request=remix), "local")
    front.house.submit(front.request, "split")
    front.service.flush()
    assert [(job.id, job.tool) for job in front.house.list_jobs(9)] == [
        ("split", "preview"),
        ("remix", "karaoke"),
    ]


def test_an_errand_is_found_until_the_daemon_is_restarted(front: Front) -> None:
    errand_id = front.house.start_errand("measure_speed", {})
    assert front.house.find_errand(errand_id) is not None
    assert front.house.find_errand("another") is None
    front.errands.close()
    front.errands = Errands(front.settings)
    front.restart()
    assert front.house.find_errand(errand_id) is None


def test_the_same_request_has_one_id_whatever_daemon_is_asked(front: Front) -> None:
    first = find_job_id(front.house, front.request)
    front.house.submit(front.request, first)
    assert find_job_id(front.house, front.request) == first
    front.service.flush()
    front.restart()
    assert find_job_id(front.house, front.request) == first
    assert find_job_id(front.house, replace(front.request, region=Region(0, 10))) != first
    assert find_job_id(front.house, replace(front.request, shifts=1)) != first


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_came_to_nothing_is_made_anew(front: Front, state: JobState) -> None:
    first = find_job_id(front.house, front.request)
    front.house.submit(front.request, first)
    front.end(first, state)
    second = find_job_id(front.house, front.request)
    assert second != first
    front.house.submit(front.request, second)
    front.end(second, state)
    assert find_job_id(front.house, front.request) not in (first, second)


def test_a_result_counts_as_long_as_it_is_on_the_disk(front: Front, tmp_path: Path) -> None:
    first = find_job_id(front.house, front.request)
    front.house.submit(front.request, first)
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "stems.json").touch()
    front.end(first, JobState.DONE, SplitResult(str(folder), 1.0, 1.0, 1.0, None))
    assert find_job_id(front.house, front.request) == first
    (folder / "stems.json").unlink()
    assert find_job_id(front.house, front.request) != first


def test_a_source_that_was_written_anew_is_another_job(front: Front) -> None:
    first = find_job_id(front.house, front.request)
    soundfile.write(front.request.source, np.ones((200, 2)) / 2, 44_100)
    assert find_job_id(front.house, front.request) != first
