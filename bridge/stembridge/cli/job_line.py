"""A job as one line of JSON, the same in every command that prints one."""

from __future__ import annotations

import json

from stembridge.types import Job


def job_json(job: Job) -> str:
    """Return ``job`` as one line of JSON in ASCII, its fields named as in `stembridge.types.Job`."""
    import msgspec

    return json.dumps(msgspec.to_builtins(job))
