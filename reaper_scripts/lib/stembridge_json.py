# @noindex
# Writes Stembridge's notes as JSON, in parts where one tick has no time for the whole.
"""`write_json`: like `json.dumps`, around texts that are JSON already."""

import json

VERSION = "0.1.0"


class Written(str):
    """A text that is JSON already."""

    __slots__ = ()


def write_part(value):
    """Return a value as JSON.

    Raises
    ------
    ValueError
        A number in it is infinite or none.
    """
    return Written(json.dumps(value, allow_nan=False))


def write_json(value):
    """Return a value as JSON; `Written` parts are taken as they are."""
    if isinstance(value, Written):
        return value
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{json.dumps(name)}: {write_json(part)}" for name, part in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(write_json, value)) + "]"
    return write_part(value)
