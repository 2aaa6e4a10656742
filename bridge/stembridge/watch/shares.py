"""Whether a folder lies on another machine. Standard library only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

_NETWORK_TYPES = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "davfs", "ncpfs", "afs", "coda", "ftp"),
        *("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "macfuse", "osxfuse"),
        *("ceph", "lustre", "gpfs", "beegfs", "orangefs", "glusterfs", "ocfs2", "gfs2"),
    }
)
"""File systems whose files another machine, or the host of a virtual one, changes unseen by our system."""

_LOCAL_FUSE = frozenset(
    {"fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.ext2", "fuse.bindfs", "fuse.mergerfs", "fuse.portal"}
)
"""File systems in user space that lie on disks of this machine; of the others most do not."""

_MOUNT_LINE = re.compile(r"^(?P<source>.*?) on (?P<point>/.*) \((?P<type>[^,)]+)")
_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_TIMEOUT_S = 10
_REMOTE_DRIVE = 4


class Mount(NamedTuple):
    """A file system and the folder where it begins."""

    point: str
    kind: str


def is_network_share(path: Path) -> bool:
    """Tell whether a path lies on a network share; one that nobody can tell of is taken for a local one."""
    real = os.path.realpath(path)
    if sys.platform == "win32":
        return _is_remote_drive(real)
    try:
        return is_network_kind(find_kind(real, _list_mounts()))
    except (OSError, subprocess.SubprocessError):
        return False


def find_kind(real: str, mounts: Iterable[Mount]) -> str:
    """Return the kind of the file system on which a path without links lies, '' where no mount holds it.

    Parameters
    ----------
    mounts : in the order in which they were made: the later of two in one place hides the other
    """
    found = Mount("", "")
    for mount in mounts:
        point = mount.point.rstrip("/")
        if (real == point or real.startswith(f"{point}/")) and len(point) >= len(found.point):
            found = Mount(point, mount.kind)
    return found.kind


def is_network_kind(kind: str) -> bool:
    """Tell whether a file system of that kind lies on another machine."""
    return kind in _NETWORK_TYPES or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts that Linux lists in /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    mounts = []
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        fields = place.split(" ")
        if len(fields) >= 5 and kind:
            point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
            mounts.append(Mount(point, kind.split(" ")[0]))
    return mounts


def parse_mount_lines(text: str) -> list[Mount]:
    """Return the mounts that macOS's ``mount`` prints: 'SOURCE on POINT (KIND, options)'."""
    found = (_MOUNT_LINE.match(line) for line in text.splitlines())
    return [Mount(line["point"], line["type"]) for line in found if line]


def _list_mounts() -> list[Mount]:
    if sys.platform == "linux":
        # Bytes of a name that are no UTF-8 stand in it as they are.
        text = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
        return parse_mountinfo(text)
    done = subprocess.run(
        ["/sbin/mount"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_MOUNT_TIMEOUT_S,
        check=True,
    )
    return parse_mount_lines(os.fsdecode(done.stdout))


def _is_remote_drive(real: str) -> bool:
    """Tell whether a path of Windows is of a share, or of a letter that stands for one (GetDriveTypeW)."""
    if sys.platform != "win32":
        return False
    import ctypes

    drive = PureWindowsPath(real).drive.removeprefix("\\\\?\\")
    is_unc = drive.startswith(("\\\\", "UNC\\"))
    return is_unc or ctypes.windll.kernel32.GetDriveTypeW(f"{drive}\\") == _REMOTE_DRIVE
