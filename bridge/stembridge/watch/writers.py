"""Whether somebody is writing a file at this moment, where the system can tell. Standard library only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stembridge.watch.shares import is_network_share

if sys.platform == "linux":
    import errno
    import fcntl
    import signal

    def is_being_written(path: Path) -> bool | None:
        """Tell whether any process has a file open for writing; None where nobody can tell.

        A read lease is granted where nobody has (fcntl(2), "Leases"); it is given back at once. Who is not
        the file's owner gets none, nor does anybody on some file systems.
        """
        try:
            # Without O_NONBLOCK, a FIFO that took the file's place would hold us up for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except BlockingIOError:
            # Somebody, a file server maybe, has the file for itself, and has just been asked to give it up.
            return True
        except OSError:
            return None
        try:
            # A writer that comes right now has a signal sent to us. SIGIO would end the process.
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            # NFS and SMB answer so to everybody whom the server has not promised the file.
            return True if error.errno == errno.EAGAIN and not is_network_share(path) else None
        finally:
            os.close(descriptor)
        return False

elif sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _GENERIC_READ = 0x80000000
    _SHARE_READ_AND_DELETE = 0x1 | 0x4
    _OPEN_EXISTING = 3
    _SHARING_VIOLATION = 32

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.CreateFileW.argtypes = (
        *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
        *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
    )
    _kernel.CreateFileW.restype = wintypes.HANDLE
    _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
    _INVALID = wintypes.HANDLE(-1).value

    def is_being_written(path: Path) -> bool | None:
        """Tell whether any process has a file open for writing; None where nobody can tell.

        Opening a file without sharing it with writers fails where there is one (CreateFileW, dwShareMode).
        """
        handle = _kernel.CreateFileW(
            str(path), _GENERIC_READ, _SHARE_READ_AND_DELETE, None, _OPEN_EXISTING, 0, None
        )
        if handle == _INVALID:
            return True if ctypes.get_last_error() == _SHARING_VIOLATION else None
        _kernel.CloseHandle(handle)
        return False

else:

    def is_being_written(path: Path) -> bool | None:
        """Tell whether any process has a file open for writing: nobody can tell on this system."""
        return None
