"""Where the daemon listens and who gets in: runtime folder, connection file, sockets, keys.

ipc: a 0700 folder of the user's own, checked before every use, because the file modes of a socket alone do
not keep others out. tcp: loopback only, CURVE always, one client key per daemon start in a 0600 file.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import zmq

from stembridge import protocol
from stembridge.errors import DaemonUnavailable
from stembridge.settings import Settings

MAX_IPC_PATH_BYTES = 100
"""Below the 107 (Linux) and 103 (macOS) bytes that sockaddr_un holds."""
ZAP_DOMAIN = b"stembridge"


class Connection(msgspec.Struct, frozen=True):
    """What connection.json says: where the daemon answers and with which keys (empty over ipc)."""

    endpoint: str
    pid: int
    version: str
    protocol: int
    server_key: str = ""
    client_public: str = ""
    client_secret: str = ""


def secure_folder(path: Path) -> Path:
    """Make ``path`` a folder that only this user can enter; refuse one that somebody else prepared.

    Raises
    ------
    DaemonUnavailable
        The folder is a link, not a folder, or not this user's.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "nt":
        return path
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DaemonUnavailable(
            f"{path} is not a folder of user {os.getuid()}", "remove it, or set STEMBRIDGE_HOME elsewhere"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def socket_path(runtime_dir: Path) -> Path:
    """Return the ipc socket's path: in ``runtime_dir``, or a short folder where that path is too long."""
    path = runtime_dir / "daemon.sock"
    if len(os.fsencode(path)) <= MAX_IPC_PATH_BYTES:
        return path
    import hashlib
    import tempfile

    short = hashlib.sha256(os.fsencode(runtime_dir)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"stembridge-{os.getuid()}-{short}"
    return secure_folder(folder) / "daemon.sock"


def write_connection(path: Path, connection: Connection) -> None:
    """Write ``connection`` to ``path`` by one rename, readable by this user alone."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(connection))
    _insist(lambda: temporary.replace(path))


def remove_connection(path: Path) -> None:
    """Remove the connection file, where there is one."""
    _insist(lambda: path.unlink(missing_ok=True))


def _insist(act: Callable[[], object]) -> None:
    """Do it again for a second while it is forbidden: on Windows a client that reads the file forbids it."""
    deadline = time.monotonic() + 1.0
    while True:
        try:
            act()
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def read_connection(path: Path) -> Connection | None:
    """Return what ``path`` says, or None where no daemon has written it (wholly)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Connection)
    except (OSError, msgspec.MsgspecError):
        return None


class Listener:
    """The daemon's ROUTER for local clients, bound on construction; `close` takes it down."""

    def __init__(self, context: zmq.Context[Any], settings: Settings, version: str) -> None:
        self.origin = "local"
        runtime = secure_folder(settings.runtime_dir)
        self._connection_file = settings.connection_file
        self._socket_path: Path | None = None
        self._authenticator: Any = None
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_FRAME_BYTES)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, 2000)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        keys = {"server_key": "", "client_public": "", "client_secret": ""}
        if settings.transport == "ipc":
            self._socket_path = socket_path(runtime)
            with suppress(FileNotFoundError):
                self._socket_path.unlink()
            self.endpoint = f"ipc://{self._socket_path}"
            self.socket.bind(self.endpoint)
            self._socket_path.chmod(0o600)
        else:
            keys = self._secure(context)
            port = self.socket.bind_to_random_port("tcp://127.0.0.1")
            self.endpoint = f"tcp://127.0.0.1:{port}"
        self.connection = Connection(
            endpoint=self.endpoint, pid=os.getpid(), version=version, protocol=protocol.VERSION, **keys
        )
        write_connection(self._connection_file, self.connection)

    def _secure(self, context: zmq.Context[Any]) -> dict[str, str]:
        from zmq.auth.thread import ThreadAuthenticator

        server_public, server_secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(
            domain=ZAP_DOMAIN.decode(), credentials_provider=_OneClient(client_public)
        )
        self.socket.setsockopt(zmq.CURVE_SERVER, 1)
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, server_secret)
        # Both lines or nobody knows who knocks: without the domain any key in the world is let in, and with
        # it enforced a missing authenticator lets nobody in.
        self.socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        return {
            "server_key": server_public.decode(),
            "client_public": client_public.decode(),
            "client_secret": client_secret.decode(),
        }

    def close(self) -> None:
        remove_connection(self._connection_file)
        self.socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
        if self._socket_path is not None:
            with suppress(FileNotFoundError):
                self._socket_path.unlink()


class _OneClient:
    """Lets one public key in, and no other."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def callback(self, _domain: str, key: bytes) -> bool:
        return key == self._public_key


def connect(context: zmq.Context[Any], connection: Connection) -> zmq.Socket[bytes]:
    """Return a DEALER connected to the daemon that ``connection`` names.

    Raises
    ------
    DaemonUnavailable
        The socket's folder is not this user's own.
    """
    if connection.endpoint.startswith("ipc://"):
        secure_folder(Path(connection.endpoint.removeprefix("ipc://")).parent)
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    if connection.server_key:
        socket.setsockopt(zmq.CURVE_SERVERKEY, connection.server_key.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, connection.client_public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, connection.client_secret.encode())
    socket.connect(connection.endpoint)
    return socket
