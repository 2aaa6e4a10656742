# @noindex
# A client of the Stembridge daemon on the standard library alone, for the Python inside REAPER.
"""One `Daemon`: a ZeroMQ DEALER that never waits.

Written from the protocol's text (rfc.zeromq.org 23/ZMTP and 37/ZMTP: greeting, NULL mechanism, frames, PING)
for any Python from 3.8. pyzmq and numpy do not survive REAPER's embedded interpreter, so nothing outside the
standard library is imported. What goes over the wire inside the frames is docs/protocol.md.
"""

import collections
import errno
import io
import json
import os
import pathlib
import re
import socket
import stat
import struct
import sys

VERSION = "0.1.0"
"""A host with one interpreter keeps old modules: a script that expects another version reloads this one."""
PROTOCOL = 1
MAGIC = b"SB1"

CHUNK_BYTES = 64 * 1024
STEPS_PER_POLL = 32
"""A step reads one chunk or finishes one frame; as many chunks at most are written."""

MAX_HEADER_BYTES = 64 * 1024
MAX_BODY_FRAME_BYTES = 4 * 1024 * 1024 - 1
MAX_BODY_BYTES = 14 * MAX_BODY_FRAME_BYTES
MAX_INCOMING_BYTES = 64 * 1024 * 1024
MAX_INCOMING_FRAMES = 16
MAX_COMMAND_BYTES = 64 * 1024

CONNECTING, GREETING, HANDSHAKE, READY, LOST = "connecting", "greeting", "handshake", "ready", "lost"

_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING_BYTES = 64
_OUR_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_NOT_YET = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS, errno.EALREADY, errno.ENOTCONN}
_NOBODY_THERE = {errno.ENOENT, errno.ECONNREFUSED}
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_SO_NOSIGPIPE = 0x1022
"""sys/socket.h of macOS; Python does not name it."""


class NotSpeakable(Exception):
    """The daemon cannot be spoken to from the standard library (keys, no local sockets): go by files."""


class _Lost(Exception):
    """The connection has ended; the text says why, `is_absent` whether starting a daemon would help."""

    def __init__(self, reason, is_absent=False):
        super().__init__(reason)
        self.is_absent = is_absent


class Daemon:
    """The daemon that ``connection_file`` names, spoken to without ever waiting.

    Call `poll` once a tick, whatever the state. Once lost it stays lost: make another one. The daemon hangs
    up on a client that is not polled for 15 s and more (a dialog is open): a loss by itself is no news.

    Attributes
    ----------
    state : 'connecting', 'greeting', 'handshake', 'ready' or 'lost'
    reason : why it is lost, one sentence; '' before
    is_absent : lost because no daemon is there, so that starting one helps

    Raises
    ------
    NotSpeakable
        The daemon wants keys, or this system has no local sockets.
    """

    def __init__(self, connection_file):
        self.state = CONNECTING
        self.reason = ""
        self.is_absent = False
        self._socket = None
        self._address = None
        self._broken = None
        self._incoming = _Incoming()
        self._outgoing = collections.deque([memoryview(_OUR_GREETING)])
        self._until_ready = collections.deque()
        try:
            endpoint = _read_endpoint(connection_file)
            family, self._address = _parse_endpoint(endpoint)
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            if sys.platform == "darwin":
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
            self._connect()
        except _Lost as error:
            self._lose(str(error), error.is_absent)
        except (OSError, ValueError) as error:
            self._lose(f"no connection to the daemon: {error}", getattr(error, "errno", 0) in _NOBODY_THERE)

    def send(self, header, body=b""):
        """Queue one message; `poll` writes it. What is sent to a lost daemon goes nowhere.

        Parameters
        ----------
        header : dict of what JSON can say; floats keep all their digits
        body : bytes, cut into frames of at most MAX_BODY_FRAME_BYTES

        Raises
        ------
        ValueError
            The message is larger than a daemon takes, or a text in it (a path) is no UTF-8.
        """
        queue = self._outgoing if self.state == READY else self._until_ready
        views = _encode_message(header, body)
        if self.state != LOST:
            queue.extend(views)

    def poll(self):
        """Return the next message as (header dict, body bytes), or None; read and write what is possible now.

        At most STEPS_PER_POLL chunks are read and as many written, whatever waits; nothing is waited for.
        """
        if self.state == LOST:
            return None
        try:
            if self.state == CONNECTING and not self._is_connected():
                return None
            message = self._read()
        except _Lost as error:
            self._lose(str(error), error.is_absent)
        except OSError as error:
            self._lose(f"the connection to the daemon broke: {error}", error.errno in _NOBODY_THERE)
        else:
            self._write()
            return message
        return None

    def close(self):
        """End the connection; what is queued and not yet written is dropped."""
        if self.state != LOST:
            self._lose("closed by this script", False)

    def _lose(self, reason, is_absent):
        self.state, self.reason, self.is_absent = LOST, reason, is_absent
        self._outgoing.clear()
        self._until_ready.clear()
        self._incoming = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self):
        code = self._socket.connect_ex(self._address)
        if code == 0:
            self.state = GREETING
        elif code not in _NOT_YET:
            raise OSError(code, os.strerror(code))

    def _is_connected(self):
        if self._socket.family != socket.AF_INET:
            # A local connect succeeds at once or, where the listener's queue is full, has not begun.
            self._connect()
            return self.state == GREETING
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            self._socket.getpeername()
        except OSError as error:
            if error.errno not in _NOT_YET:
                raise
            return False
        self.state = GREETING
        return True

    def _read(self):
        for _ in range(STEPS_PER_POLL):
            kind, content = self._incoming.take()
            if kind is None:
                if not self._receive_chunk():
                    return None
            elif kind == "greeting":
                self.state = HANDSHAKE
                self._outgoing.append(memoryview(_encode_ready()))
            elif kind == "command":
                self._obey(content)
            elif self.state != READY:
                raise _Lost("protocol error: a message before the handshake was over")
            elif kind == "message":
                return _decode_message(*content)
        return None

    def _receive_chunk(self):
        """Return whether anything was there to read."""
        try:
            chunk = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            if self._broken is not None:
                raise self._broken from None
            return False
        if not chunk:
            when = "" if self.state == READY else " before it was ready; it may want keys"
            raise _Lost(f"the daemon closed the connection{when}")
        self._incoming.feed(chunk)
        return True

    def _obey(self, command):
        name, content = _split_command(command)
        if name == b"ERROR":
            text = content[1 : 1 + content[0]] if content else b""
            raise _Lost(f"the daemon refused the connection: {text.decode('utf-8', 'replace')}")
        if self.state == HANDSHAKE:
            if name != b"READY":
                raise _Lost(f"protocol error: {name!r} where READY was due")
            socket_type = _decode_properties(content).get(b"socket-type", b"")
            if socket_type != b"ROUTER":
                raise _Lost(f"protocol error: a socket of type {socket_type!r} answers, not a daemon")
            self.state = READY
            self._outgoing.extend(self._until_ready)
            self._until_ready.clear()
        elif name == b"PING":
            # Two bytes of time-to-live, then the context that the answer carries back.
            self._outgoing.append(memoryview(_encode_frame(_COMMAND, b"\x04PONG" + content[2:])))

    def _write(self):
        try:
            for _ in range(STEPS_PER_POLL):
                if not self._outgoing:
                    return
                view = self._outgoing[0]
                # A signal instead of the error would end the host: it need not have asked to ignore SIGPIPE.
                sent = self._socket.send(view[:CHUNK_BYTES], _NO_SIGNAL)
                if sent == len(view):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = view[sent:]
        except BlockingIOError:
            return
        except OSError as error:
            # Told once what the daemon said before it left has been read.
            self._broken = _Lost(f"the connection to the daemon broke: {error}")
            self._outgoing.clear()


class _Incoming:
    """Takes bytes in any portions, gives back greeting, commands and messages."""

    def __init__(self):
        self._unread = bytearray()
        self._has_greeting = False
        self._flags = None
        self._missing = 0
        self._sink = None
        self._begin_message()

    def feed(self, chunk):
        self._unread += chunk

    def take(self):
        """Return kind and content of what comes next: (None, None) where more bytes are needed.

        ('greeting', None), ('command', bytes), ('part', None) or ('message', [magic, header, body]).
        """
        if not self._has_greeting:
            self._has_greeting = self._take_greeting()
            return ("greeting" if self._has_greeting else None), None
        if self._flags is None and not self._begin_frame():
            return None, None
        chunk = self._unread[: self._missing]
        del self._unread[: len(chunk)]
        self._sink.write(chunk)
        self._missing -= len(chunk)
        if self._missing:
            return None, None
        flags, self._flags = self._flags, None
        if flags & _COMMAND:
            return "command", self._sink.getvalue()
        if flags & _MORE:
            return "part", None
        parts = self._parts
        self._begin_message()
        return "message", [part.getvalue() for part in parts]

    def _begin_message(self):
        # getvalue hands over what was gathered without another copy, so that no size costs a long tick.
        self._parts = [io.BytesIO(), io.BytesIO(), io.BytesIO()]
        self._frames = 0
        self._bytes = 0

    def _take_greeting(self):
        head = self._unread
        if (head and head[0] != 0xFF) or (len(head) > 9 and head[9] != 0x7F):
            raise _Lost(f"protocol error: {bytes(head[:10])!r} is no ZeroMQ greeting")
        if len(head) > 10 and head[10] < 3:
            raise _Lost(f"protocol error: the daemon speaks ZMTP {head[10]}, at least 3 is needed")
        if len(head) < _GREETING_BYTES:
            return False
        mechanism = bytes(head[12:32]).rstrip(b"\0")
        if mechanism != b"NULL":
            raise _Lost(f"the daemon wants mechanism {mechanism!r}, this script speaks NULL")
        del head[:_GREETING_BYTES]
        return True

    def _begin_frame(self):
        """Return whether the head of a frame was there."""
        head = self._unread
        if not head:
            return False
        flags = head[0]
        if flags > _MORE | _LONG | _COMMAND or (flags & _COMMAND and flags & _MORE):
            raise _Lost(f"protocol error: frame flags 0x{flags:02x}")
        size_bytes = 8 if flags & _LONG else 1
        if len(head) < 1 + size_bytes:
            return False
        size = int.from_bytes(head[1 : 1 + size_bytes], "big")
        del head[: 1 + size_bytes]
        if flags & _COMMAND:
            if size > MAX_COMMAND_BYTES:
                raise _Lost(f"protocol error: a command of {size} bytes")
            self._sink = io.BytesIO()
        else:
            self._bytes += size
            if self._bytes > MAX_INCOMING_BYTES:
                raise _Lost(
                    f"protocol error: a message of {self._bytes} bytes, at most {MAX_INCOMING_BYTES} fit"
                )
            self._frames += 1
            if self._frames > MAX_INCOMING_FRAMES:
                raise _Lost(f"protocol error: a message of more than {MAX_INCOMING_FRAMES} frames")
            if self._frames == 1 and not flags & _MORE:
                raise _Lost("protocol error: a message of one frame")
            self._sink = self._parts[min(self._frames, 3) - 1]
        self._flags, self._missing = flags, size
        return True


def _read_endpoint(connection_file):
    """Return where the daemon answers."""
    path = pathlib.Path(connection_file)
    try:
        said = json.loads(path.read_bytes().decode("utf-8"))
        endpoint, protocol = said["endpoint"], said["protocol"]
        has_keys = bool(said.get("server_key"))
    except OSError as error:
        raise _Lost(f"no daemon has left its address in {path}: {error.strerror}", is_absent=True) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Lost(f"{path} holds no address of a daemon", is_absent=True) from None
    if protocol != PROTOCOL:
        raise _Lost(_version_sentence(protocol))
    if not isinstance(endpoint, str):
        raise _Lost(f"{path} holds no address of a daemon", is_absent=True)
    if has_keys:
        raise NotSpeakable(f"the daemon at {endpoint} wants keys")
    return endpoint


def _parse_endpoint(endpoint):
    """Return socket family and address; refuse a folder that others can enter."""
    if endpoint.startswith("ipc://"):
        if not hasattr(socket, "AF_UNIX") or not hasattr(os, "getuid"):
            raise NotSpeakable("this Python has no local sockets")
        # The daemon's bytes, whatever encoding of file names the host's Python has settled on.
        address = endpoint[len("ipc://") :].encode("utf-8")
        _check_folder(pathlib.Path(os.fsdecode(address)).parent)
        return socket.AF_UNIX, address
    found = re.match(r"tcp://127\.0\.0\.1:([0-9]{1,5})$", endpoint)
    if found is None or int(found.group(1)) > 65535:
        raise NotSpeakable(f"no local address: {endpoint}")
    return socket.AF_INET, ("127.0.0.1", int(found.group(1)))


def _check_folder(folder):
    try:
        found = folder.lstat()
    except OSError as error:
        raise _Lost(f"no daemon at {folder}: {error.strerror}", is_absent=True) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise _Lost(f"{folder} is not a folder of user {os.getuid()}: remove it")
    mode = stat.S_IMODE(found.st_mode)
    if mode != 0o700:
        raise _Lost(f"others may enter {folder} (mode {mode:04o}): chmod 700 it")


def _encode_frame(flags, content):
    if len(content) > 255:
        return struct.pack(">BQ", flags | _LONG, len(content)) + content
    return struct.pack(">BB", flags, len(content)) + content


def _encode_ready():
    properties = ((b"Socket-Type", b"DEALER"), (b"Identity", b""))
    metadata = b"".join(
        struct.pack(">B", len(name)) + name + struct.pack(">I", len(value)) + value
        for name, value in properties
    )
    return _encode_frame(_COMMAND, b"\x05READY" + metadata)


def _encode_message(header, body):
    """Return the views whose bytes, one after the other, are one message."""
    text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        head = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{_find_broken(header)!r} is not a valid name: rename the file or folder") from None
    if len(head) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(head)} bytes, at most {MAX_HEADER_BYTES} are taken")
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"body of {len(body)} bytes, at most {MAX_BODY_BYTES} are taken")
    whole = memoryview(body).cast("B")
    cuts = [whole[at : at + MAX_BODY_FRAME_BYTES] for at in range(0, len(whole), MAX_BODY_FRAME_BYTES)]
    more = _MORE if cuts else 0
    views = [memoryview(_encode_frame(_MORE, MAGIC) + _encode_frame(more, head))]
    for number, cut in enumerate(cuts, 1):
        flags = _LONG | (_MORE if number < len(cuts) else 0)
        views += [memoryview(struct.pack(">BQ", flags, len(cut))), cut]
    return views


def _find_broken(value):
    """Return the first text in ``value`` that no UTF-8 can spell."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value
        return None
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    else:
        inner = value if isinstance(value, (list, tuple)) else []
    return next((found for found in map(_find_broken, inner) if found is not None), None)


def _decode_message(magic, header, body):
    if magic != MAGIC:
        found = re.match(rb"SB([0-9]{1,8})$", magic)
        if found is None:
            raise _Lost(f"protocol error: {magic[:16]!r} is no message of a daemon")
        raise _Lost(_version_sentence(found.group(1).decode("ascii")))
    try:
        decoded = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise _Lost(f"protocol error: a header that is no JSON object: {header[:40]!r}")
    return decoded, body


def _split_command(command):
    """Return name and content of a command."""
    if not command or not 0 < command[0] < len(command):
        raise _Lost("protocol error: a command without a name")
    end = 1 + command[0]
    return command[1:end], command[end:]


def _decode_properties(metadata):
    """Return the properties of READY; their names are the same in any case, so in lower case."""
    found, at = {}, 0
    try:
        while at < len(metadata):
            end = at + 1 + metadata[at]
            name = metadata[at + 1 : end]
            (size,) = struct.unpack_from(">I", metadata, end)
            at = end + 4 + size
            found[name.lower()] = metadata[end + 4 : at]
    except struct.error:
        at = len(metadata) + 1
    if at != len(metadata):
        raise _Lost("protocol error: READY is cut short")
    return found


def _version_sentence(theirs):
    return f"the daemon speaks protocol {theirs}, this script speaks {PROTOCOL}: update the older of the two"
