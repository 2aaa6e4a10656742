"""The scripts' client against a real ROUTER, a real daemon, and a server whose every byte is chosen."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from daemon_harness import DaemonHarness
from stembridge import protocol, transport

SOURCE = Path(__file__).parents[2] / "reaper_scripts" / "lib" / "stembridge_zmtp.py"
_spec = importlib.util.spec_from_file_location("stembridge_zmtp", SOURCE)
assert _spec is not None and _spec.loader is not None
zmtp: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(zmtp)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows: the scripts go by files there")

STDLIB = {"collections", "errno", "io", "json", "os", "pathlib", "re", "socket", "stat", "struct", "sys"}
LIMIT_S = 30.0

NULL = b"NULL" + bytes(16)
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + NULL + bytes(32)
READY_ROUTER = b"\x04" + bytes([6 + 12 + 4 + 6]) + b"\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
HANDSHAKE = GREETING + READY_ROUTER
PING = b"\x04\x0b\x04PING\x00\x64abcd"
PONG = b"\x04\x09\x04PONGabcd"


def spell_frame(content: bytes, *, more: bool) -> bytes:
    if len(content) > 255:
        return bytes([2 + more]) + len(content).to_bytes(8, "big") + content
    return bytes([more, len(content)]) + content


def spell_message(header: object, *body: bytes, magic: bytes = b"SB1") -> bytes:
    frames = [magic, json.dumps(header).encode(), *body]
    return b"".join(spell_frame(frame, more=number < len(frames)) for number, frame in enumerate(frames, 1))


def drive(is_done: Callable[[], object], what: str) -> None:
    """Call ``is_done``, which polls, until it says so."""
    deadline = time.monotonic() + LIMIT_S
    while not is_done():
        assert time.monotonic() < deadline, f"waited {LIMIT_S:.0f} s for {what}"
        time.sleep(0.0005)


def receive(*daemons: Any) -> tuple[dict[str, Any], bytes]:
    """Poll until the first of ``daemons`` has a message, and return it."""
    found: list[tuple[dict[str, Any], bytes]] = []

    def poll() -> bool:
        for other in daemons[1:]:
            assert other.poll() is None
        message = daemons[0].poll()
        assert daemons[0].state != "lost", daemons[0].reason
        if message is not None:
            found.append(message)
        return message is not None

    drive(poll, "a message")
    return found[0]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A runtime folder as the daemon makes it; its path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="z"))
    yield path
    shutil.rmtree(path)


def write_connection(folder: Path, **changed: object) -> Path:
    path = folder / "connection.json"
    said: dict[str, object] = {
        "endpoint": f"ipc://{folder}/daemon.sock", "pid": 1, "version": "0.1.0", "protocol": 1,
        "server_key": "", "client_public": "", "client_secret": "",
    }  # fmt: skip
    path.write_text(json.dumps({**said, **changed}))
    return path


class Router:
    """A real ROUTER, set as the daemon sets its own."""

    def __init__(self, folder: Path, *, endpoint: str = "", options: dict[int, Any] | None = None) -> None:
        self.context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_FRAME_BYTES)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        for option, value in (options or {}).items():
            self.socket.setsockopt(option, value)
        self.socket.bind(endpoint or f"ipc://{folder}/daemon.sock")
        bound = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.connection_file = write_connection(folder, endpoint=bound.rstrip(b"\0").decode())

    def receive(self, *daemons: Any) -> list[bytes]:
        """Poll ``daemons`` until one of their messages has come: identity and frames."""

        def has_come() -> bool:
            for daemon in daemons:
                assert daemon.poll() is None
                assert daemon.state != "lost", daemon.reason
            return bool(self.socket.poll(0))

        drive(has_come, "a message at the ROUTER")
        return self.socket.recv_multipart()

    def close(self) -> None:
        self.socket.close()
        self.context.term()


@pytest.fixture
def router(folder: Path) -> Iterator[Router]:
    opened = Router(folder)
    yield opened
    opened.close()


class Peer:
    """A server that says exactly what a test tells it to, to the one client it accepts."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.listener = listener
        self._accepted: socket.socket | None = None
        self.connection_file = write_connection(folder)

    def meet(self, *, said: bytes = b"") -> Any:
        """Return a client that is connected and has been told ``said``."""
        daemon = zmtp.Daemon(self.connection_file)
        if self._accepted is not None:
            self._accepted.close()
        self._accepted, _ = self.listener.accept()
        self.send(said)
        return daemon

    def meet_ready(self) -> Any:
        daemon = self.meet(said=HANDSHAKE)
        while daemon.state != "ready":
            assert daemon.poll() is None and daemon.state != "lost", daemon.reason
        daemon.poll()
        self.hear()
        return daemon

    @property
    def socket(self) -> socket.socket:
        assert self._accepted is not None
        return self._accepted

    def send(self, said: bytes) -> None:
        self.socket.settimeout(LIMIT_S)
        self.socket.sendall(said)

    def hear(self) -> bytes:
        """Return whatever the client has written so far."""
        self.socket.setblocking(False)
        heard = b""
        try:
            while chunk := self.socket.recv(1 << 20):
                heard += chunk
        except BlockingIOError:
            pass
        return heard

    def is_left(self) -> bool:
        """Return whether the client has hung up."""
        try:
            while self.socket.recv(1 << 20, socket.MSG_DONTWAIT):
                pass
        except ConnectionResetError:
            return True
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if self._accepted is not None:
            self._accepted.close()
        self.listener.close()


@pytest.fixture
def peer(folder: Path) -> Iterator[Peer]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "daemon.sock"))
    listener.listen()
    opened = Peer(folder, listener)
    yield opened
    opened.close()


class CountingSocket(socket.socket):
    """A real socket that fails a call which could wait, and counts those that could not."""

    calls: list[str]

    def _count(self, name: str) -> None:
        assert self.gettimeout() == 0.0, f"{name} on a socket that waits"
        type(self).calls.append(name)

    def connect_ex(self, address: Any) -> int:
        self._count("connect")
        return super().connect_ex(address)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._count("recv")
        assert size <= zmtp.CHUNK_BYTES
        return super().recv(size, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._count("send")
        assert len(data) <= zmtp.CHUNK_BYTES
        return super().send(data, flags)


def use_socket(monkeypatch: pytest.MonkeyPatch, kind: type[socket.socket]) -> None:
    """Give the client, and nobody else, sockets of ``kind``."""
    monkeypatch.setattr(zmtp, "socket", types.SimpleNamespace(**{**vars(socket), "socket": kind}))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the client asks of its socket, in order; waiting of any kind fails the test."""

    class Counting(CountingSocket):
        calls: list[str] = []  # noqa: RUF012

    def fail(*_arguments: object) -> None:
        raise AssertionError("the client waits")

    use_socket(monkeypatch, Counting)
    monkeypatch.setattr(select, "select", fail)
    if hasattr(select, "poll"):
        monkeypatch.setattr(select, "poll", fail)
    monkeypatch.setattr(time, "sleep", fail)
    return Counting.calls


# A real ROUTER


def test_a_message_and_its_answer_keep_every_digit_and_letter(router: Router) -> None:
    daemon = zmtp.Daemon(router.connection_file)
    sent = {"t": "plan", "at": [0.1 + 0.2, 1 / 3, 5e-324, -0.0, 1e308], "path": "/Música/曲 🎚.wav", "n": None}
    daemon.send(sent, b"\0\xffbody")

    identity, *frames = router.receive(daemon)
    assert frames[0] == b"SB1" and frames[2:] == [b"\0\xffbody"]
    assert json.loads(frames[1]) == sent
    assert repr(json.loads(frames[1])["at"]) == repr(sent["at"])
    assert "曲".encode() in frames[1], "spelt out, not escaped"

    router.socket.send_multipart([identity, b"SB1", json.dumps(sent).encode(), b"an", b"swer"])
    assert receive(daemon) == (sent, b"answer")
    daemon.close()


def test_messages_sent_before_the_handshake_arrive_in_order(router: Router) -> None:
    daemon = zmtp.Daemon(router.connection_file)
    assert daemon.state == "greeting"
    for number in range(20):
        daemon.send({"number": number})
    assert [json.loads(router.receive(daemon)[2])["number"] for _ in range(20)] == list(range(20))
    daemon.close()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65536, 4 * 2**20 - 1, 4 * 2**20, 9 * 2**20 + 5])
def test_a_body_of_any_size_goes_there_and_back(router: Router, size: int) -> None:
    body = os.urandom(size)
    daemon = zmtp.Daemon(router.connection_file)
    daemon.send({"t": "x"}, body)
    identity, magic, header, *cuts = router.receive(daemon)
    assert b"".join(cuts) == body
    assert all(0 < len(cut) < protocol.MAX_FRAME_BYTES for cut in cuts)
    assert len(cuts) == -(-size // (protocol.MAX_FRAME_BYTES - 1))

    router.socket.send_multipart([identity, magic, header, *cuts])
    assert receive(daemon) == ({"t": "x"}, body)
    daemon.close()


def test_the_largest_body_is_taken_and_one_byte_more_is_refused_with_both_sizes(router: Router) -> None:
    largest = 14 * (4 * 2**20 - 1)
    daemon = zmtp.Daemon(router.connection_file)
    daemon.send({}, bytes(largest))
    frames = router.receive(daemon)[1:]
    assert len(frames) == protocol.MAX_FRAMES and sum(map(len, frames[2:])) == largest
    with pytest.raises(ValueError, match=f"body of {largest + 1} bytes, at most {largest} "):
        daemon.send({}, bytes(largest + 1))
    daemon.close()


def test_a_header_of_any_size_that_the_daemon_takes(router: Router) -> None:
    daemon = zmtp.Daemon(router.connection_file)
    for size in (0, 246, 247, 248, 249, 300, protocol.MAX_HEADER_BYTES - 8):
        daemon.send({"x": "y" * size})
        identity, magic, header = router.receive(daemon)
        assert json.loads(header) == {"x": "y" * size}
        router.socket.send_multipart([identity, magic, header])
        assert receive(daemon) == ({"x": "y" * size}, b"")
    with pytest.raises(ValueError, match=r"header of 65537 bytes, at most 65536 "):
        daemon.send({"x": "y" * (protocol.MAX_HEADER_BYTES - 7)})
    daemon.close()


def test_two_clients_get_their_own_answers(router: Router) -> None:
    one, other = zmtp.Daemon(router.connection_file), zmtp.Daemon(router.connection_file)
    for name, daemon in (("one", one), ("other", other)):
        daemon.send({"name": name})
    seen = {}
    for _ in range(2):
        identity, _magic, header = router.receive(one, other)
        seen[json.loads(header)["name"]] = identity
    router.socket.send_multipart([seen["other"], b"SB1", b'{"to":"other"}'])
    assert receive(other, one) == ({"to": "other"}, b"")
    router.socket.send_multipart([seen["one"], b"SB1", b'{"to":"one"}'])
    assert receive(one, other) == ({"to": "one"}, b"")
    one.close()
    other.close()


def test_a_router_that_went_away_is_lost_and_its_successor_is_found(folder: Path) -> None:
    first = Router(folder)
    daemon = zmtp.Daemon(first.connection_file)
    daemon.send({"n": 1})
    first.receive(daemon)
    first.close()
    drive(lambda: daemon.poll() is None and daemon.state == "lost", "the loss")
    assert "closed the connection" in daemon.reason or "broke" in daemon.reason
    daemon.send({"into": "nothing"})
    assert daemon.poll() is None

    absent = zmtp.Daemon(first.connection_file)
    assert absent.state == "lost" and absent.is_absent

    second = Router(folder)
    daemon = zmtp.Daemon(second.connection_file)
    daemon.send({"n": 2})
    assert second.receive(daemon)[2] == b'{"n":2}'
    daemon.close()
    second.close()


def test_a_router_over_loopback_without_keys(folder: Path) -> None:
    router = Router(folder, endpoint="tcp://127.0.0.1:*")
    daemon = zmtp.Daemon(router.connection_file)
    daemon.send({"over": "tcp"}, bytes(300_000))
    identity, magic, header, body = router.receive(daemon)
    assert header == b'{"over":"tcp"}' and len(body) == 300_000
    router.socket.send_multipart([identity, magic, header, body])
    assert receive(daemon) == ({"over": "tcp"}, body)
    router.close()
    drive(lambda: daemon.poll() is None and daemon.state == "lost", "the loss")
    refused = zmtp.Daemon(router.connection_file)
    drive(lambda: refused.poll() is None and refused.state == "lost", "the refusal")
    assert refused.is_absent and "refused" in refused.reason


def test_a_router_that_wants_curve_is_lost_by_name(folder: Path) -> None:
    router = Router(folder, options={zmq.CURVE_SERVER: 1, zmq.CURVE_SECRETKEY: zmq.curve_keypair()[1]})
    daemon = zmtp.Daemon(router.connection_file)
    drive(lambda: daemon.poll() is None and daemon.state == "lost", "the refusal")
    router.close()
    assert daemon.reason in (
        "the daemon closed the connection before it was ready; it may want keys",
        "the daemon wants mechanism b'CURVE', this script speaks NULL",
    )
    assert not daemon.is_absent


class Proxy:
    """Stands between a client and a ROUTER and carries so many bytes a turn each way."""

    def __init__(self, folder: Path, upstream: str, portion: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "proxy.sock"))
        self._listener.listen()
        self._listener.setblocking(False)
        self._upstream, self._portion = upstream, portion
        self._ends: list[socket.socket] = []
        self.to_client = b""
        self.to_router = b""

    def turn(self) -> None:
        if not self._ends:
            near, _ = self._listener.accept()
            far = socket.socket(socket.AF_UNIX)
            self._ends = [near, far]
            far.connect(self._upstream)
            for end in self._ends:
                end.setblocking(False)
        near, far = self._ends
        self.to_router += self._carry(near, far)
        self.to_client += self._carry(far, near)

    def _carry(self, source: socket.socket, sink: socket.socket) -> bytes:
        try:
            portion = source.recv(self._portion)
        except BlockingIOError:
            return b""
        sink.sendall(portion)
        return portion

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            end.close()


def test_a_proxy_that_splits_every_byte_both_ways(router: Router, folder: Path) -> None:
    proxy = Proxy(folder, f"{folder}/daemon.sock", 1)
    daemon = zmtp.Daemon(write_connection(folder, endpoint=f"ipc://{folder}/proxy.sock"))
    daemon.send({"a": "b" * 300}, b"body" * 80)
    arrived: list[bytes] = []

    def reaches_the_router() -> bool:
        proxy.turn()
        assert daemon.poll() is None and daemon.state != "lost", daemon.reason
        if router.socket.poll(0):
            arrived[:] = router.socket.recv_multipart()
        return bool(arrived)

    drive(reaches_the_router, "the message, byte by byte")
    assert json.loads(arrived[2]) == {"a": "b" * 300} and arrived[3] == b"body" * 80

    router.socket.send_multipart([*arrived, b"!" * 300])
    answers: list[tuple[dict[str, Any], bytes]] = []

    def reaches_the_client() -> bool:
        proxy.turn()
        message = daemon.poll()
        answers.extend([message] if message else [])
        return bool(answers)

    drive(reaches_the_client, "the answer, byte by byte")
    assert answers == [({"a": "b" * 300}, b"body" * 80 + b"!" * 300)]
    daemon.close()
    proxy.close()


def test_a_router_with_heartbeats_keeps_a_client_that_has_nothing_to_say(folder: Path) -> None:
    router = Router(folder, options={zmq.HEARTBEAT_IVL: 20, zmq.HEARTBEAT_TIMEOUT: 5000})
    proxy = Proxy(folder, f"{folder}/daemon.sock", 1 << 16)
    daemon = zmtp.Daemon(write_connection(folder, endpoint=f"ipc://{folder}/proxy.sock"))

    def has_answered_five() -> bool:
        proxy.turn()
        assert daemon.poll() is None and daemon.state != "lost", daemon.reason
        return proxy.to_router.count(b"\x04PONG") >= 5

    drive(has_answered_five, "five PONGs")
    assert proxy.to_client.count(b"\x04PING") >= 5
    daemon.send({"still": "here"})

    def has_come() -> bool:
        proxy.turn()
        assert daemon.poll() is None and daemon.state == "ready", daemon.reason
        return bool(router.socket.poll(0))

    drive(has_come, "the message")
    assert router.socket.recv_multipart()[2] == b'{"still":"here"}'
    daemon.close()
    proxy.close()
    router.close()


def test_reads_and_writes_of_one_byte(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stingy(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            return super().recv(min(size, 1), flags)

        def send(self, data: Any, flags: int = 0) -> int:
            return super().send(data[:1], flags)

    use_socket(monkeypatch, Stingy)
    daemon = zmtp.Daemon(router.connection_file)
    daemon.send({"a": "b" * 300}, b"body" * 100)
    identity, magic, header, body = router.receive(daemon)
    assert json.loads(header) == {"a": "b" * 300} and body == b"body" * 100
    router.socket.send_multipart([identity, magic, header, body])
    assert receive(daemon) == ({"a": "b" * 300}, body)
    daemon.close()


# Every byte chosen


def test_what_the_client_says_of_itself(peer: Peer) -> None:
    daemon = peer.meet()
    assert daemon.poll() is None
    assert peer.hear() == GREETING
    peer.send(GREETING)
    assert daemon.poll() is None and daemon.state == "handshake"
    metadata = b"\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
    assert peer.hear() == bytes([4, 6 + len(metadata)]) + b"\x05READY" + metadata
    daemon.send({"n": 1})
    assert daemon.poll() is None
    assert peer.hear() == b"", "nothing before the daemon is ready"
    peer.send(READY_ROUTER)
    assert daemon.poll() is None and daemon.state == "ready"
    assert peer.hear() == b'\x01\x03SB1\x00\x07{"n":1}'
    daemon.close()


def test_an_answer_is_the_same_wherever_its_bytes_are_split(peer: Peer) -> None:
    stream = HANDSHAKE + spell_frame(b"SB1", more=True) + PING
    stream += spell_frame(b'{"n": 1}', more=True) + PING + spell_frame(b"x" * 300, more=True)
    stream += spell_frame(b"", more=True) + spell_frame(b"yz", more=False) + spell_message({"n": 2})
    for cut in range(1, len(stream)):
        daemon = peer.meet(said=stream[:cut])
        messages = [daemon.poll() for _ in range(4)]
        peer.send(stream[cut:])
        messages += [daemon.poll() for _ in range(4)]
        assert daemon.state == "ready", (cut, daemon.reason)
        told = [message for message in messages if message is not None]
        assert told == [({"n": 1}, b"x" * 300 + b"yz"), ({"n": 2}, b"")], cut
        assert peer.hear().count(PONG) == 2, cut
        daemon.close()


def test_slow_bytes_make_one_message(peer: Peer) -> None:
    daemon = peer.meet()
    stream = HANDSHAKE + spell_message({"slow": True}, b"x" * 300)
    for at in range(len(stream)):
        assert daemon.poll() is None
        peer.send(stream[at : at + 1])
    assert daemon.poll() == ({"slow": True}, b"x" * 300)
    daemon.close()


def test_the_names_of_properties_are_the_same_in_any_case(peer: Peer) -> None:
    daemon = peer.meet(said=GREETING + READY_ROUTER.replace(b"Socket-Type", b"SOCKET-type"))
    daemon.poll()
    assert daemon.state == "ready"
    daemon.close()


def test_a_ping_is_answered_with_its_context_and_strange_commands_are_passed_over(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.send(b"\x04\x07\x04PING\x00\x0a" + b"\x04\x0a\x09SUBSCRIBE" + PING)
    assert daemon.poll() is None
    assert peer.hear() == b"\x04\x05\x04PONG" + PONG
    daemon.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "is no ZeroMQ greeting"),
        (b"SSH", "b'SSH' is no ZeroMQ greeting"),
        (b"\xff" + b"x" * 20, "is no ZeroMQ greeting"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "speaks ZMTP 1, at least 3 is needed"),
        (GREETING.replace(NULL, b"PLAIN" + bytes(15)), "wants mechanism b'PLAIN', this script speaks NULL"),
        (GREETING + spell_message({"too": "early"}), "a message before the handshake was over"),
        (GREETING + b"\x04\x08\x05ERROR\x01x", "refused the connection: x"),
        (GREETING + b"\x04\x06\x05ERROR", "refused the connection: "),
        (GREETING + PING, "b'PING' where READY was due"),
        (GREETING + READY_ROUTER.replace(b"ROUTER", b"DEALER"), "a socket of type b'DEALER' answers"),
        (GREETING + b"\x04\x06\x05READY", "a socket of type b'' answers"),
        (GREETING + b"\x04\x0a\x05READY\x0bSoc", "READY is cut short"),
        (GREETING + b"\x04\x16\x05READY\x0bSocket-Type\x00\x00\x00\x06", "READY is cut short"),
        (GREETING + b"\x04\x00", "a command without a name"),
        (GREETING + b"\x04\x02\x00x", "a command without a name"),
        (GREETING + b"\x04\x03\x05RE", "a command without a name"),
        (HANDSHAKE + b"\x04\x0f\x05ERROR\x08no, gone", "refused the connection: no, gone"),
        (HANDSHAKE + b"\x08\x00", "frame flags 0x08"),
        (HANDSHAKE + b"\x05\x00", "frame flags 0x05"),
        (HANDSHAKE + b"\x06" + struct.pack(">Q", 65537), "a command of 65537 bytes"),
        (HANDSHAKE + b"\x03" + struct.pack(">Q", 2**63), f"a message of {2**63} bytes, at most 67108864 fit"),
        (HANDSHAKE + b"\x01\x01x\x03" + struct.pack(">Q", 2**26), "a message of 67108865 bytes, at most"),
        (HANDSHAKE + b"\x01\x00" * 16 + b"\x00\x00", "a message of more than 16 frames"),
        (HANDSHAKE + spell_frame(b"SB1", more=False), "a message of one frame"),
        (HANDSHAKE + spell_message({}, magic=b"SB2"), "speaks protocol 2, this script speaks 1: update"),
        (HANDSHAKE + spell_message({}, magic=b"HELLO"), "b'HELLO' is no message of a daemon"),
        (HANDSHAKE + spell_message([1]), "a header that is no JSON object: b'[1]'"),
        (HANDSHAKE + b"\x01\x03SB1\x00\x02{\xff", r"a header that is no JSON object: b'{\xff'"),
        (HANDSHAKE + spell_frame(b"SB1", more=True) + spell_frame(b"[" * 100_000, more=False), "b'[[[["),
    ],
)
def test_what_breaks_the_protocol_is_lost_with_its_reason(peer: Peer, said: bytes, reason: str) -> None:
    daemon = peer.meet(said=said)
    for _ in range(8):
        assert daemon.poll() is None
    assert daemon.state == "lost" and reason in daemon.reason, daemon.reason
    assert not daemon.is_absent
    assert peer.is_left()


def test_the_most_that_is_taken_of_a_daemon(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.send(spell_message({"n": 1}, *[b"x"] * 14))
    assert daemon.poll() == ({"n": 1}, b"x" * 14)
    peer.send(b"\x01\x03SB1\x01\x02{}\x02" + struct.pack(">Q", 2**26 - 5))
    assert daemon.poll() is None and daemon.state == "ready"
    daemon.close()


def test_a_daemon_that_closes_in_the_middle_of_a_message(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.send(spell_message({"n": 1}) + spell_message({"n": 2}, b"x" * 1000)[:-1])
    peer.socket.close()
    assert daemon.poll() == ({"n": 1}, b"")
    assert daemon.poll() is None
    assert (daemon.state, daemon.reason) == ("lost", "the daemon closed the connection")
    assert daemon.poll() is None


def test_what_a_daemon_said_before_it_left_is_still_told(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.send(b"".join(spell_message({"n": number}) for number in range(3)))
    peer.socket.close()
    told = []
    for _ in range(3):
        daemon.send({"to": "nobody"})
        told.append(daemon.poll())
    assert told == [({"n": number}, b"") for number in range(3)]
    assert daemon.poll() is None and daemon.state == "lost"


def test_a_daemon_that_says_no_more_is_lost(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.socket.shutdown(socket.SHUT_WR)
    assert daemon.poll() is None and daemon.state == "lost"


def test_a_daemon_that_hears_no_more_is_lost_with_the_next_message(peer: Peer) -> None:
    daemon = peer.meet_ready()
    peer.socket.shutdown(socket.SHUT_RD)
    assert daemon.poll() is None and daemon.state == "ready"
    daemon.send({"n": 1})
    assert daemon.poll() is None
    assert daemon.poll() is None
    assert daemon.state == "lost" and "broke" in daemon.reason


def test_a_broken_connection_sends_no_signal_that_would_end_the_host(peer: Peer) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        f"sys.path.insert(0, {str(SOURCE.parent)!r}); import stembridge_zmtp as z\n"
        f"d = z.Daemon({str(peer.connection_file)!r}); print('connected', flush=True); sys.stdin.read()\n"
        "while d.state != 'lost': d.send({}); d.poll()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None and host.stdin is not None
        assert host.stdout.readline() == "connected\n"
        accepted, _ = peer.listener.accept()
        accepted.sendall(HANDSHAKE)
        accepted.shutdown(socket.SHUT_RD)
        host.stdin.close()
        assert host.wait(LIMIT_S) == 0
        accepted.close()


# Never waiting


@pytest.mark.parametrize("cut", [0, 1, 30, 63, 64, 70, len(HANDSHAKE), len(HANDSHAKE) + 3, -400, -1])
def test_a_poll_asks_once_and_returns_while_the_daemon_stalls(peer: Peer, calls: list[str], cut: int) -> None:
    stream = HANDSHAKE + spell_message({"n": 1}, b"x" * 500)
    daemon = peer.meet(said=stream[:cut])
    for _ in range(3):
        assert daemon.poll() is None
    calls.clear()
    for _ in range(200):
        assert daemon.poll() is None
    assert calls == ["recv"] * 200
    peer.send(stream[cut:])
    assert [daemon.poll() for _ in range(3)].count(({"n": 1}, b"x" * 500)) == 1
    daemon.close()


def test_a_server_that_never_answers_costs_a_question_a_poll(peer: Peer, calls: list[str]) -> None:
    daemon = peer.meet()
    daemon.send({"n": 1}, bytes(1 << 20))
    for _ in range(100):
        assert daemon.poll() is None
    assert daemon.state == "greeting" and daemon.reason == ""
    assert calls == ["connect", "recv", "send", *["recv"] * 99]
    daemon.close()


def test_a_poll_gives_one_message_however_many_wait(peer: Peer, calls: list[str]) -> None:
    daemon = peer.meet_ready()
    peer.send(b"".join(spell_message({"n": number}) for number in range(50)))
    assert [daemon.poll() for _ in range(50)] == [({"n": number}, b"") for number in range(50)]
    assert daemon.poll() is None
    daemon.close()


def test_a_server_that_does_not_read_stops_the_writing_and_nothing_else(peer: Peer, calls: list[str]) -> None:
    daemon = peer.meet_ready()
    body = os.urandom(9 * 2**20)
    daemon.send({"n": 1}, body)
    calls.clear()
    for _ in range(100):
        assert daemon.poll() is None
    assert calls[-20:] == ["recv", "send"] * 10, "one refused write a poll"
    peer.send(spell_message({"n": 2}))
    assert daemon.poll() == ({"n": 2}, b""), "it still listens"
    heard = b""
    while len(heard) < len(body) or not heard.endswith(body[-100:]):
        heard += peer.hear()
        calls.clear()
        assert daemon.poll() is None and daemon.state == "ready", daemon.reason
        assert len(calls) <= 2 * zmtp.STEPS_PER_POLL
    assert heard.startswith(b"\x01\x03SB1\x01\x07" + b'{"n":1}\x03')
    at, cuts = 14, []
    while at < len(heard):
        size = int.from_bytes(heard[at + 1 : at + 9], "big")
        cuts.append(heard[at + 9 : at + 9 + size])
        at += 9 + size
    assert b"".join(cuts) == body
    daemon.close()


@pytest.mark.parametrize(
    ("said", "most_per_poll"),
    [(b"\x03" + struct.pack(">Q", 60 * 2**20) + bytes(65527), 32), (PING * (65536 // len(PING)), 1)],
    ids=["a long frame", "PINGs"],
)
def test_a_poll_does_a_bounded_amount_of_work_however_much_comes(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, said: bytes, most_per_poll: int
) -> None:
    ready = peer.meet_ready()
    reads: list[int] = []
    writes: list[int] = []

    class Flood:
        """Always has something to read and takes whatever is written."""

        close = ready._socket.close

        def recv(self, size: int) -> bytes:
            reads.append(size)
            return said

        def send(self, data: Any, _flags: int) -> int:
            writes.append(len(data))
            return len(data)

    monkeypatch.setattr(ready, "_socket", Flood())
    ready.send({"n": 1}, bytes(30 * 2**20))
    for _ in range(10):
        before = len(reads)
        writes.clear()
        assert ready.poll() is None and ready.state == "ready", ready.reason
        assert len(reads) - before <= most_per_poll and 0 < len(writes) <= 32
        assert max(reads + writes) <= 65536
    ready.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses where Linux lets a client ask again")
def test_a_full_queue_at_the_door_is_waited_for_without_waiting(folder: Path, calls: list[str]) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "daemon.sock"))
    listener.listen(0)
    early: list[Any] = []
    daemon = zmtp.Daemon(write_connection(folder))
    while daemon.state != "connecting":
        assert daemon.state == "greeting" and len(early) < 10
        early.append(daemon)
        daemon = zmtp.Daemon(folder / "connection.json")
    for _ in range(10):
        assert daemon.poll() is None and daemon.state == "connecting"
    assert calls == ["connect"] * (len(early) + 11)
    accepted = [listener.accept()[0] for _ in early]
    assert daemon.poll() is None and daemon.state == "greeting"
    for end in [listener, *accepted, daemon, *early]:
        end.close()


# Where the daemon is, and who may be there


def test_no_connection_file_means_no_daemon(folder: Path) -> None:
    daemon = zmtp.Daemon(folder / "connection.json")
    assert daemon.state == "lost" and daemon.is_absent
    assert (
        daemon.reason
        == f"no daemon has left its address in {folder}/connection.json: No such file or directory"
    )
    assert daemon.poll() is None
    daemon.send({"n": 1})
    daemon.close()
    assert "No such file" in daemon.reason, "closing keeps the reason"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"protocol": 1}', b'{"endpoint": 5, "protocol": 1}']
)
def test_a_garbled_connection_file_means_no_daemon(folder: Path, text: bytes) -> None:
    (folder / "connection.json").write_bytes(text)
    daemon = zmtp.Daemon(str(folder / "connection.json"))
    assert daemon.state == "lost" and daemon.is_absent
    assert daemon.reason == f"{folder}/connection.json holds no address of a daemon"


def test_another_protocol_is_refused_with_both_versions(router: Router, folder: Path) -> None:
    daemon = zmtp.Daemon(write_connection(folder, protocol=2))
    assert daemon.state == "lost" and not daemon.is_absent
    assert daemon.reason == (
        "the daemon speaks protocol 2, this script speaks 1: update the older of the two"
    )


def test_a_daemon_with_keys_is_not_speakable(folder: Path) -> None:
    with pytest.raises(zmtp.NotSpeakable, match=r"tcp://127.0.0.1:5 wants keys"):
        zmtp.Daemon(write_connection(folder, endpoint="tcp://127.0.0.1:5", server_key="k" * 40))


@pytest.mark.parametrize("endpoint", ["tcp://10.0.0.1:5", "tcp://localhost:5", "tcp://127.0.0.1:99999", "x"])
def test_only_this_machine_is_spoken_to(folder: Path, endpoint: str) -> None:
    with pytest.raises(zmtp.NotSpeakable, match="no local address"):
        zmtp.Daemon(write_connection(folder, endpoint=endpoint))


def test_a_python_without_local_sockets_cannot_speak(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: value for name, value in vars(socket).items() if name != "AF_UNIX"}
    monkeypatch.setattr(zmtp, "socket", types.SimpleNamespace(**without))
    with pytest.raises(zmtp.NotSpeakable, match="no local sockets"):
        zmtp.Daemon(router.connection_file)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_refused(router: Router, folder: Path, mode: int) -> None:
    folder.chmod(mode)
    daemon = zmtp.Daemon(router.connection_file)
    assert daemon.state == "lost" and not daemon.is_absent
    assert daemon.reason == f"others may enter {folder} (mode {mode:04o}): chmod 700 it"


def test_a_folder_of_somebody_else_is_refused(
    router: Router, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    daemon = zmtp.Daemon(router.connection_file)
    assert daemon.state == "lost"
    assert daemon.reason == f"{folder} is not a folder of user {somebody}: remove it"


def test_a_link_to_a_folder_is_refused(router: Router, folder: Path, tmp_path: Path) -> None:
    link = folder.with_name("link")
    link.symlink_to(folder)
    daemon = zmtp.Daemon(write_connection(folder, endpoint=f"ipc://{link}/daemon.sock"))
    link.unlink()
    assert daemon.state == "lost" and "is not a folder of user" in daemon.reason


def test_a_socket_that_nobody_serves_means_no_daemon(folder: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / "daemon.sock"))
    left.close()
    refused = zmtp.Daemon(write_connection(folder))
    assert refused.state == "lost" and refused.is_absent and "refused" in refused.reason
    (folder / "daemon.sock").unlink()
    missing = zmtp.Daemon(write_connection(folder))
    assert missing.state == "lost" and missing.is_absent and "No such file" in missing.reason
    nowhere = zmtp.Daemon(write_connection(folder, endpoint=f"ipc://{folder}/gone/daemon.sock"))
    assert nowhere.state == "lost" and nowhere.is_absent and f"no daemon at {folder}/gone" in nowhere.reason


def test_a_path_that_no_socket_can_have_is_lost_and_not_raised(folder: Path) -> None:
    for name in ("\0", "\ud800", "x" * 200):
        daemon = zmtp.Daemon(write_connection(folder, endpoint=f"ipc://{folder}/{name}"))
        assert daemon.state == "lost" and daemon.reason, name


def test_letters_of_any_kind_in_the_path(folder: Path) -> None:
    inner = folder / "Música 曲"
    inner.mkdir(mode=0o700)
    router = Router(inner)
    daemon = zmtp.Daemon(router.connection_file)
    daemon.send({"n": 1})
    assert router.receive(daemon)[2] == b'{"n":1}'
    daemon.close()
    router.close()


@pytest.mark.parametrize(
    "header",
    [{"path": "/a/\udcff.wav"}, {"items": [{"a": 1}, {"b": ("x", "/a/\udcff.wav")}]}, {"/a/\udcff.wav": 1}],
)
def test_a_name_that_is_no_text_is_refused_by_name(router: Router, header: dict[str, Any]) -> None:
    daemon = zmtp.Daemon(router.connection_file)
    with pytest.raises(ValueError, match=r"'/a/\\udcff.wav' is not a valid name: rename the file or folder"):
        daemon.send(header)
    with pytest.raises(ValueError, match="JSON"):
        daemon.send({"at": float("nan")})
    daemon.send({"n": 1})
    assert router.receive(daemon)[2] == b'{"n":1}', "nothing of what was refused is on the wire"
    daemon.close()


# The daemon itself


def test_a_real_daemon_answers_is_killed_and_is_found_again(daemon: DaemonHarness) -> None:
    process = daemon.start()
    client = zmtp.Daemon(daemon.settings.connection_file)
    client.send({"t": "hello", "call": "1", "versions": [1], "client": "reaper"})
    client.send({"t": "ping", "call": "2"})
    client.send({"t": "status", "call": "3"})
    welcome, pong, status = (receive(client)[0] for _ in range(3))
    assert (welcome["t"], welcome["call"], welcome["version"]) == ("welcome", "1", 1)
    assert welcome["pid"] == process.pid
    assert (pong["t"], pong["call"]) == ("pong", "2")
    assert (status["t"], status["call"]) == ("status", "3")
    assert status["status"]["endpoint"].startswith("ipc://")

    client.send({"t": "get", "call": "4", "id": "no-such-job"})
    assert receive(client)[0]["code"] == "not_found"

    daemon.kill(process)
    client.send({"t": "ping", "call": "5"})
    drive(lambda: client.poll() is None and client.state == "lost", "the loss")
    gone = zmtp.Daemon(daemon.settings.connection_file)
    assert gone.state == "lost" and gone.is_absent, "its connection file is still there, and nobody answers"

    daemon.start()
    client = zmtp.Daemon(daemon.settings.connection_file)
    client.send({"t": "ping", "call": "6"})
    assert receive(client)[0]["call"] == "6"
    client.close()


# What REAPER's Python demands


def test_the_limits_are_the_daemons_own() -> None:
    assert zmtp.MAGIC == protocol.MAGIC and zmtp.PROTOCOL == protocol.VERSION
    assert zmtp.MAX_HEADER_BYTES == protocol.MAX_HEADER_BYTES
    assert zmtp.MAX_BODY_FRAME_BYTES < protocol.MAX_FRAME_BYTES
    assert zmtp.MAX_INCOMING_FRAMES == protocol.MAX_FRAMES
    assert {"endpoint", "protocol", "server_key"} <= set(transport.Connection.__struct_fields__)


def test_reapack_and_python_3_8_take_the_file() -> None:
    text = SOURCE.read_text(encoding="utf-8")
    assert text.startswith("# @noindex\n# ")
    ast.parse(text, feature_version=(3, 8))
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F,E",
         "--line-length", "110", "--target-version", "py38", str(SOURCE)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_a_python_without_sockets_says_so_at_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socket", None)
    assert _spec is not None and _spec.loader is not None
    with pytest.raises(ImportError, match="socket"):
        _spec.loader.exec_module(importlib.util.module_from_spec(_spec))


def test_only_the_standard_library_is_imported() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SOURCE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert imported <= STDLIB
