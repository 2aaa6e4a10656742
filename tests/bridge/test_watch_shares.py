"""Which folders lie on another machine, by what the systems list of their mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.watch import shares
from stembridge.watch.shares import (
    Mount,
    find_kind,
    is_network_kind,
    is_network_share,
    parse_mount_lines,
    parse_mountinfo,
)

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /dev rw - devtmpfs udev rw
40 22 0:44 / /mnt/studio\\040disk rw,relatime shared:5 master:2 - cifs //nas/studio rw,vers=3.1.1
41 22 0:45 / /mnt/nfs rw - nfs4 nas:/export rw
42 41 254:3 / /mnt/nfs/local rw - xfs /dev/vdb rw
43 22 0:46 / /mnt/over rw - nfs nas:/one rw
44 22 254:4 / /mnt/over rw - ext4 /dev/vdc rw
45 22 0:47 / /home/x/remote rw - fuse.sshfs x@far: rw
47 22 0:49 / /media/ntfs rw - fuse.ntfs /dev/sdc1 rw
46 22 0:48 / /media/usb rw - fuseblk /dev/sdb1 rw
broken
"""

MOUNT_LINES = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//anna@nas._smb._tcp.local/Studio on /Volumes/Studio on nas (smbfs, nodev, nosuid, mounted by anna)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
"""


@pytest.mark.parametrize(
    ("path", "is_remote"),
    [
        ("/home/x/drop", False),
        ("/mnt/studio disk", True),
        ("/mnt/studio disk/drop/deep", True),
        ("/mnt/studio disk 2", False),
        ("/mnt/nfs/drop", True),
        ("/mnt/nfs/local/drop", False),
        ("/mnt/nfs2", False),
        ("/mnt/over/drop", False),
        ("/home/x/remote/drop", True),
        ("/media/usb/drop", False),
        ("/media/ntfs/drop", False),
        ("/dev/shm", False),
    ],
)
def test_the_nearest_mount_of_linux_decides(path: str, is_remote: bool) -> None:
    assert is_network_kind(find_kind(path, parse_mountinfo(MOUNTINFO))) is is_remote


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/Users/anna", "apfs"), ("/Volumes/Studio on nas/drop", "smbfs"), ("/System/Volumes/Data/x", "apfs")],
)
def test_the_nearest_mount_of_macos_decides(path: str, kind: str) -> None:
    assert find_kind(path, parse_mount_lines(MOUNT_LINES)) == kind
    assert is_network_kind(kind) is (kind == "smbfs")


def test_nothing_is_known_without_mounts() -> None:
    assert find_kind("/x", []) == ""
    assert not is_network_kind("")


def test_a_folder_of_this_machine_is_none(tmp_path: Path) -> None:
    assert is_network_share(tmp_path) is False


def test_a_link_is_followed_to_the_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    real = (tmp_path / "far").resolve()
    monkeypatch.setattr(shares, "_list_mounts", lambda: [Mount("/", "ext4"), Mount(str(real), "nfs")])
    assert is_network_share(tmp_path / "near" / "song.wav")
    assert not is_network_share(tmp_path / "song.wav")


def test_who_cannot_be_asked_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Mount]:
        raise FileNotFoundError("/proc/self/mountinfo")

    monkeypatch.setattr(shares, "_list_mounts", fail)
    assert is_network_share(tmp_path) is False
