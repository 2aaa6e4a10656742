"""Frames in, messages out; whatever is no message of ours gets a sentence, never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge import protocol
from stembridge.errors import CLASS_OF_CODE, ProtocolError, RequestError, StembridgeError, from_wire
from stembridge.types import Job, JobState, Progress, Region, RemixRequest, SplitRequest, StoryLine

REQUEST = SplitRequest(source="/m/曲.wav", out="/m", model="htdemucs", region=Region(0, 10))
JOB = Job(
    "a", REQUEST, JobState.RUNNING, 1.0, Progress("separate", 0.5, None), 1, story=(StoryLine(1.0, "x"),)
)

REMIX_REQUEST = RemixRequest("/m/set", "/m", "karaoke", ("vocals.gain_db=-3",), speed=0.8, pitch=-2.0)
REMIX = Job("b", None, JobState.QUEUED, 2.0, remix=REMIX_REQUEST)


@pytest.mark.parametrize(
    "call",
    [
        protocol.Hello(call="1", versions=(1,)),
        protocol.Ping(call="1"),
        protocol.Split(call="1", id="a", request=REQUEST, watch=True),
        protocol.Remix(call="1", id="b", request=REMIX_REQUEST, watch=True),
        protocol.Get(call="1", id="a"),
        protocol.List(call="1", limit=3),
        protocol.Cancel(call="1", id="a"),
        protocol.Status(call="1"),
        protocol.Stop(call="1", grace_s=0.0),
        protocol.Reaper(call="1", note=b'{"v": 1}'),
    ],
)
def test_every_call_survives_the_wire(call: protocol.Call) -> None:
    assert protocol.decode_call(protocol.encode(call)) == call


@pytest.mark.parametrize(
    "reply",
    [
        protocol.Welcome(version=1, server="0.1.0", pid=1),
        protocol.Pong(),
        protocol.Accepted(job=JOB, duplicate=True),
        protocol.JobReply(job=JOB),
        protocol.Jobs(jobs=(JOB, REMIX)),
        protocol.Stopping(),
        protocol.Event(job=JOB),
        protocol.Error(code="busy", message="m", hint="h"),
        protocol.Orders(reply=b'{"v": 1}', makes_jobs=True),
    ],
)
def test_every_reply_survives_the_wire(reply: protocol.Reply) -> None:
    assert protocol.decode_reply(protocol.encode(reply)) == reply


def test_a_job_says_what_is_worked_on_and_with_what() -> None:
    assert (JOB.source, JOB.out, JOB.tool) == ("/m/曲.wav", "/m", "htdemucs")
    assert (REMIX.source, REMIX.out, REMIX.tool) == ("/m/set", "/m", "karaoke")
    assert JOB.split == REQUEST
    with pytest.raises(AssertionError, match="b is no split"):
        _ = REMIX.split


def test_a_job_of_a_daemon_that_knows_no_remix_is_understood() -> None:
    text = protocol.encode(protocol.JobReply(job=JOB))[1].replace(b',"remix":null', b"")
    assert protocol.decode_reply([b"SB1", text]) == protocol.JobReply(job=JOB)


def test_every_message_kind_is_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
    for kind in (*protocol.Call.__args__, *protocol.Reply.__args__):
        tag = kind.__struct_config__.tag
        assert f"`{tag}" in text or f"{tag} " in text, f"docs/protocol.md does not name {tag!r}"
    for code in CLASS_OF_CODE:
        if code not in ("error", "failed", "misaligned", "unavailable"):
            assert f"`{code}`" in text, f"docs/protocol.md does not name the code {code!r}"


def test_an_unknown_field_is_ignored_and_an_unknown_kind_refused() -> None:
    assert protocol.decode_call([b"SB1", b'{"t":"ping","later":1}']) == protocol.Ping()
    with pytest.raises(RequestError, match="not understood"):
        protocol.decode_call([b"SB1", b'{"t":"dance","call":"7"}'])
    assert protocol.number_of([b"SB1", b'{"t":"dance","call":"7"}']) == "7"
    assert protocol.number_of([b"SB1", b"{"]) == ""


def test_another_major_version_gets_one_sentence_that_names_both() -> None:
    with pytest.raises(ProtocolError, match=r"client speaks protocol 2, this daemon speaks 1"):
        protocol.decode_call([b"SB2", b"{}"])
    with pytest.raises(ProtocolError, match=r"daemon speaks protocol 7, this client speaks 1"):
        protocol.decode_reply([b"SB7", b"{}"])


def test_a_header_that_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(RequestError, match="header of"):
        protocol.decode_call([b"SB1", b" " * (protocol.MAX_HEADER_BYTES + 1)])
    with pytest.raises(RequestError):
        protocol.decode_call([b"SB1", b"[" * 60_000])
    jobs = protocol.Jobs(jobs=(JOB,) * 1000)
    assert protocol.decode_reply(protocol.encode(jobs)) == jobs


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_any_bytes_are_a_message_or_a_protocol_error(frames: list[bytes]) -> None:
    try:
        protocol.decode_call(frames)
    except (ProtocolError, RequestError) as error:
        assert "\n" not in error.message


FRAME = protocol.MAX_FRAME_BYTES - 1


@pytest.mark.parametrize(
    ("size", "frames"), [(0, 0), (1, 1), (FRAME, 1), (FRAME + 1, 2), (3 * FRAME + 7, 4), (14 * FRAME, 14)]
)
def test_a_note_and_a_reply_go_in_as_many_frames_as_they_need(size: int, frames: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    call = protocol.encode(protocol.Reaper(call="1", note=body))
    reply = protocol.encode(protocol.Orders(call="1", reply=body))
    assert [len(call), len(reply)] == [2 + frames, 2 + frames]
    assert all(len(frame) < protocol.MAX_FRAME_BYTES for frame in (*call, *reply))
    assert protocol.decode_call(call) == protocol.Reaper(call="1", note=body)
    assert protocol.decode_reply(reply) == protocol.Orders(call="1", reply=body)


@pytest.mark.parametrize("kind", [protocol.Reaper, protocol.Orders])
def test_what_is_too_long_for_a_message_is_refused_with_its_size_and_the_limit(kind: Any) -> None:
    body = bytes(14 * FRAME + 1)
    with pytest.raises(RequestError, match=str(len(body))) as caught:
        protocol.encode(kind(note=body) if kind is protocol.Reaper else kind(reply=body))
    assert str(14 * FRAME) in caught.value.hint


def test_a_note_in_more_frames_than_are_taken_is_refused() -> None:
    header = protocol.encode(protocol.Reaper(call="1"))
    with pytest.raises(RequestError, match="17 frames"):
        protocol.decode_call([*header, *[b"x"] * 15])


def test_a_path_that_is_no_text_is_refused_by_name() -> None:
    request = SplitRequest(source="/m/\udcff.wav", out="/m", model="preview")
    with pytest.raises(RequestError, match="not a valid name"):
        protocol.encode(protocol.Split(id="a", request=request))


def test_errors_come_back_as_the_class_they_left_as() -> None:
    for code, kind in CLASS_OF_CODE.items():
        error = from_wire(code, "m", "h")
        assert type(error) is kind and (error.message, error.hint) == ("m", "h")
    assert isinstance(from_wire("from_the_future", "m", ""), StembridgeError)
