"""Whether a process that has written something still runs. Standard library only."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_CLOCK_S = 2.0
"""By so much the start of a process is known less well than the time at which it wrote."""

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _QUERY_LIMITED_INFORMATION = 0x1000
    _ACCESS_DENIED = 5
    _STILL_ACTIVE = 259
    _FROM_1601_TO_1970_S = 11_644_473_600

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.argtypes = wintypes.DWORD, wintypes.BOOL, wintypes.DWORD
    _kernel.OpenProcess.restype = wintypes.HANDLE
    _kernel.GetExitCodeProcess.argtypes = wintypes.HANDLE, wintypes.LPDWORD
    _kernel.GetProcessTimes.argtypes = (wintypes.HANDLE, *(ctypes.POINTER(wintypes.FILETIME),) * 4)
    _kernel.CloseHandle.argtypes = (wintypes.HANDLE,)

    def is_running_since(pid: int, moment: float) -> bool:
        """Return whether a process runs that has this number and had it at a moment.

        Parameters
        ----------
        moment : seconds since the epoch
        """
        # os.kill would end it there, whatever the signal.
        handle = _kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
        if not handle:
            return ctypes.get_last_error() == _ACCESS_DENIED
        try:
            code, times = wintypes.DWORD(), [wintypes.FILETIME() for _ in range(4)]
            if _kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value != _STILL_ACTIVE:
                return False
            if not _kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return True
            began = times[0].dwHighDateTime << 32 | times[0].dwLowDateTime
            return began / 1e7 - _FROM_1601_TO_1970_S <= moment + _CLOCK_S
        finally:
            _kernel.CloseHandle(handle)

else:

    def is_running_since(pid: int, moment: float) -> bool:
        """Return whether a process runs that has this number and had it at a moment.

        Where the system does not say when it began, it is taken for the one of then.

        Parameters
        ----------
        moment : seconds since the epoch
        """
        if pid <= 0:
            return False
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        with suppress(OSError, ValueError, LookupError):
            # A program may have called itself anything, brackets and all.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in b"ZX":
                return False
            (booted,) = (
                int(line.split()[1])
                for line in Path("/proc/stat").read_bytes().splitlines()
                if line.startswith(b"btime ")
            )
            return booted + int(fields[19]) / os.sysconf("SC_CLK_TCK") <= moment + _CLOCK_S
        return True
