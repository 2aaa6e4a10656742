"""Session files that are seen whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stembridge import disk


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield a hidden name beside ``target``; what was written there takes its place, by one rename.

    After an error nothing is left of it, and ``target`` is as it was.

    Raises
    ------
    OutputError : nothing can be written there, or not all of it
    """
    # The name of the target may be as long as names can be.
    hidden = target.with_name(f".stembridge-{uuid4().hex[:12]}.part")
    with disk.writing(target.parent):
        try:
            yield hidden
            with hidden.open("rb+") as file:
                os.fsync(file.fileno())
            hidden.replace(target)
            disk.sync_folder(target.parent)
        finally:
            hidden.unlink(missing_ok=True)
