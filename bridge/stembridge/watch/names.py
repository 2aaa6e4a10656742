"""Which names in a watched folder are those of recordings, and which are passing or belong to other programs.

Standard library only.
"""

from __future__ import annotations

EXTENSIONS_OF_KIND = {
    "WAV": (".wav", ".wave", ".bwf"),
    "RF64": (".rf64",),
    "BW64": (".bw64",),
    "W64": (".w64",),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3",),
    "M4A": (".m4a", ".m4b"),
    "AAC": (".aac",),
    "WavPack": (".wv",),
}
"""Endings by kind, as `stembridge.headers.kind` names them; what a file really is its first bytes say."""

EXTENSIONS = frozenset(ending for endings in EXTENSIONS_OF_KIND.values() for ending in endings)

_ENDINGS = tuple(EXTENSIONS)

_PASSING = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".opdownload",
    ".filepart",
    ".!sync",
)
"""Endings of what browsers and syncers have not finished. Safari's is a folder that holds the file."""

_PACKAGES = (".logicx", ".band", ".bundle", ".app")
"""Endings of folders that macOS shows as one file; recordings in a project are not dropped ones."""

_COPIES = ("conflicted copy", ".sync-conflict-", "(case conflict", "(selective sync conflict")
"""What Dropbox, Nextcloud, ownCloud and Syncthing call the lesser one of two that were changed at once."""


def is_ignored_name(name: str) -> bool:
    """Tell whether a file of that name, without its folder, is never taken, whatever is in it."""
    folded = name.casefold()
    return (
        not folded.endswith(_ENDINGS)
        or folded.startswith((".", "~"))
        or any(mark in folded for mark in _COPIES)
    )


def is_ignored_folder(name: str) -> bool:
    """Tell whether what lies in a folder of that name, without its own folder, is never taken."""
    return name.startswith((".", "~")) or name.casefold().endswith((*_PASSING, *_PACKAGES))
