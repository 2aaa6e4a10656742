"""The wire, spelled once: message kinds, version, frames. The text is docs/protocol.md.

`encode` turns a message into frames, `decode_call` and `decode_reply` turn frames into one; whatever cannot
be understood raises `ProtocolError` with a sentence fit for a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from stembridge.errors import ProtocolError, RequestError
from stembridge.types import Job, RemixRequest, SplitRequest

VERSION = 1
MAGIC = b"SB1"
MAX_HEADER_BYTES = 64 * 1024
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_FRAMES = 16
MAX_BODY_BYTES = (MAX_FRAMES - 2) * (MAX_FRAME_BYTES - 1)
"""What a message may carry in its binary frames."""
ID_PATTERN = r"^[0-9A-Za-z_-]{1,64}$"


class _Call(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag=str.lower, omit_defaults=True):
    call: str = ""


class Hello(_Call, frozen=True, kw_only=True):
    versions: tuple[int, ...]
    client: str = ""


class Ping(_Call, frozen=True, kw_only=True):
    pass


class Split(_Call, frozen=True, kw_only=True):
    id: str
    request: SplitRequest
    watch: bool = False


class Remix(_Call, frozen=True, kw_only=True):
    id: str
    request: RemixRequest
    watch: bool = False


class Get(_Call, frozen=True, kw_only=True):
    id: str
    watch: bool = False


class List(_Call, frozen=True, kw_only=True):
    limit: int = 50
    prefix: str = ""


class Cancel(_Call, frozen=True, kw_only=True):
    id: str


class Pause(_Call, frozen=True, kw_only=True):
    id: str


class Resume(_Call, frozen=True, kw_only=True):
    id: str


class Status(_Call, frozen=True, kw_only=True):
    pass


class Stop(_Call, frozen=True, kw_only=True):
    grace_s: float = 10.0


class Reaper(_Call, frozen=True, kw_only=True):
    """A note from a script in REAPER, as JSON in the binary frames; docs/reaper-conversation.md."""

    note: bytes = b""


ServiceCall = Hello | Ping | Split | Remix | Get | List | Cancel | Pause | Resume | Status | Stop
Call = ServiceCall | Reaper


class WorkerStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One worker process: ``state`` is absent, starting, idle, busy or stopping.

    ``paused`` are the jobs that it has put aside; ``threads`` is how many it computes with on a CPU, 0 where
    that is not set.
    """

    role: str
    device: str
    state: str
    pid: int | None = None
    job: str | None = None
    models: tuple[str, ...] = ()
    model_loads: int = 0
    starts: int = 0
    paused: tuple[str, ...] = ()
    threads: int = 0


class DaemonStatus(msgspec.Struct, frozen=True):
    """What `stembridge daemon status` shows; ``paused`` of the queued and running ``jobs`` do not go on.

    ``speeds`` maps 'model on device' to a cost, 'model half on device' where half precision was asked for.

    The cost is seconds of work per second of audio and forward pass, at no overlap. The first of ``workers``
    is the one that separates.
    """

    pid: int
    version: str
    protocol: int
    uptime_s: float
    endpoint: str
    home: str
    jobs: dict[str, int]
    workers: tuple[WorkerStatus, ...]
    speeds: dict[str, float]
    paused: int = 0


class _Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag=str.lower, omit_defaults=True):
    call: str = ""


class Welcome(_Reply, frozen=True, kw_only=True):
    version: int
    server: str
    pid: int


class Pong(_Reply, frozen=True, kw_only=True):
    pass


class Accepted(_Reply, frozen=True, kw_only=True):
    job: Job
    duplicate: bool = False


class JobReply(_Reply, frozen=True, kw_only=True, tag="job"):
    job: Job


class Jobs(_Reply, frozen=True, kw_only=True):
    jobs: tuple[Job, ...]


class StatusReply(_Reply, frozen=True, kw_only=True, tag="status"):
    status: DaemonStatus


class Stopping(_Reply, frozen=True, kw_only=True):
    pass


class Event(_Reply, frozen=True, kw_only=True):
    job: Job


class Orders(_Reply, frozen=True, kw_only=True):
    """What a script in REAPER is to do, as JSON in the binary frames.

    ``makes_jobs`` where jobs were made for it: then it is as good as an `Accepted`.
    """

    reply: bytes = b""
    makes_jobs: bool = False


class Error(_Reply, frozen=True, kw_only=True):
    code: str
    message: str
    hint: str = ""


Reply = Welcome | Pong | Accepted | JobReply | Jobs | StatusReply | Stopping | Event | Orders | Error

_Message = TypeVar("_Message", Call, Reply)
_NOT_UNDERSTOOD = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class _Numbered(msgspec.Struct):
    call: str = ""


_encoder = msgspec.json.Encoder()
_call_decoder: msgspec.json.Decoder[Call] = msgspec.json.Decoder(Call)
_reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Call | Reply) -> list[bytes]:
    """Return the frames of one message.

    Raises
    ------
    RequestError
        A path in it is no text (bytes no UTF-8), or it is longer than a message may be.
    """
    body = b""
    match message:
        case Reaper(note=body):
            message = msgspec.structs.replace(message, note=b"")
        case Orders(reply=body):
            message = msgspec.structs.replace(message, reply=b"")
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(f"a message of {len(body)} bytes", f"at most {MAX_BODY_BYTES} are taken")
    parts = [body[start : start + MAX_FRAME_BYTES - 1] for start in range(0, len(body), MAX_FRAME_BYTES - 1)]
    try:
        return [MAGIC, _encoder.encode(message), *parts]
    except UnicodeEncodeError as error:
        raise RequestError(f"{error.object!r} is not a valid name", "rename the file or folder") from None


def with_number(message: _Message, number: str) -> _Message:
    """Return ``message`` under the call number that ties a reply to its call."""
    return msgspec.structs.replace(message, call=number)


def decode_call(frames: Sequence[bytes]) -> Call:
    """Return the call that a client's frames hold.

    Raises
    ------
    ProtocolError
        Another protocol version, or frames that are no message of ours.
    RequestError
        A message of ours that holds no call we know.
    """
    _check_frames(frames, theirs="client", ours="daemon")
    if len(frames) > MAX_FRAMES or len(frames[1]) > MAX_HEADER_BYTES:
        raise RequestError(
            f"message of {len(frames)} frames with a header of {len(frames[1])} bytes",
            f"at most {MAX_FRAMES} frames and {MAX_HEADER_BYTES} bytes are taken",
        )
    try:
        call = _call_decoder.decode(frames[1])
    except _NOT_UNDERSTOOD as error:
        raise RequestError(f"header not understood: {error}", "see docs/protocol.md") from None
    if isinstance(call, Reaper):
        return msgspec.structs.replace(call, note=b"".join(frames[2:]))
    return call


def decode_reply(frames: Sequence[bytes]) -> Reply:
    """Return the reply or event that the daemon's frames hold; raise `ProtocolError` where they hold none."""
    _check_frames(frames, theirs="daemon", ours="client")
    try:
        reply = _reply_decoder.decode(frames[1])
    except _NOT_UNDERSTOOD as error:
        raise ProtocolError(f"header not understood: {error}", "see docs/protocol.md") from None
    if isinstance(reply, Orders):
        return msgspec.structs.replace(reply, reply=b"".join(frames[2:]))
    return reply


def number_of(frames: Sequence[bytes]) -> str:
    """Return the number of a call that may be understood no further, or '' where it has none."""
    try:
        return msgspec.json.decode(frames[1][: MAX_HEADER_BYTES + 1], type=_Numbered).call
    except _NOT_UNDERSTOOD:
        return ""


def is_ours(frames: Sequence[bytes]) -> bool:
    """Return whether frames carry the magic of any version: only such a sender can be answered."""
    return len(frames) >= 2 and frames[0][:2] == MAGIC[:2] and frames[0][2:].isdigit()


def version_sentence(theirs: str, ours: str, their_version: str) -> str:
    """Return the one sentence that names both sides' versions."""
    return f"the {theirs} speaks protocol {their_version}, this {ours} speaks {VERSION}"


def _check_frames(frames: Sequence[bytes], *, theirs: str, ours: str) -> None:
    if not is_ours(frames):
        raise ProtocolError(f"{len(frames)} frames that are no message of ours")
    if frames[0] != MAGIC:
        their_version = frames[0][2:10].decode("ascii")
        raise ProtocolError(
            version_sentence(theirs, ours, their_version),
            "update the older of the two: pip install -U stembridge, then stembridge daemon stop",
        )
