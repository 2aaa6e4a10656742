"""Named places where a test may have a process killed, as `kill -9` would at that very moment.

``STEMBRIDGE_FAILPOINT=name@/path/once`` kills the first process that reaches ``name`` and can create the
file ``/path/once``; without the variable a failpoint does nothing.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "STEMBRIDGE_FAILPOINT"


def failpoint(name: str) -> None:
    """Kill this process if the environment asks for it at ``name`` and nobody was killed there before."""
    wanted, _, once = os.environ.get(VARIABLE, "").partition("@")
    if wanted != name:
        return
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if os.name == "nt":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)
