"""A lock that dies with its process: flock on POSIX, msvcrt.locking on Windows."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path


class FileLock:
    """An exclusive lock on ``path``, held from `acquire` to `release`, `remove` or the end of the process.

    Only the lock means something, never the file's existence. The file stays, but where everybody who has
    the lock lets go of it by `remove`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, timeout_s: float = 0.0, *, creates: bool = True) -> bool:
        """Take the lock, trying again for ``timeout_s`` seconds; return whether it is held now.

        Parameters
        ----------
        creates : make the file, and the folders above it, where there is none; else that is a lock not held

        Raises
        ------
        OSError : the file cannot be opened, or its file system knows no locks
        """
        deadline = time.monotonic() + timeout_s
        while self._fd is None:
            self._fd = self._open_locked(creates)
            if self._fd is None:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.01)
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        """Let go of a lock that is held, and remove its file."""
        if sys.platform == "win32":
            # What is open cannot be removed there; who has opened it meanwhile keeps it.
            self.release()
        with suppress(OSError):
            self.path.unlink()
        self.release()

    def write(self, text: str) -> None:
        """Put ``text`` into the file of a lock that is held."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.write(self._fd, text.encode())

    def read(self) -> str:
        """Return what its last holder put into the file of a lock that is held; at most 1 KiB of it."""
        assert self._fd is not None
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.read(self._fd, 1024).decode(errors="replace")

    def _open_locked(self, creates: bool) -> int | None:
        while True:
            if creates:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(self.path, os.O_RDWR | (os.O_CREAT if creates else 0), 0o600)
            except FileNotFoundError:
                if creates:
                    raise
                return None
            keeps = False
            try:
                if not _try_lock(fd, is_shared=False):
                    return None
                # Its last holder may have removed it between our two calls; then the lock is on nothing.
                keeps = _is_at(fd, self.path)
                if keeps:
                    return fd
            finally:
                if not keeps:
                    os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock at ``path``.

    Two that ask at the same time do not see each other. One that asks may be in the way of `acquire` for a
    moment, so whoever must have the lock waits a little for it.
    """
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(fd, is_shared=True)
    finally:
        os.close(fd)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int, *, is_shared: bool) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        if is_shared:
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        return True
else:
    import fcntl

    def _try_lock(fd: int, *, is_shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
