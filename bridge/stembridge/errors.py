"""Every error a user can meet, as one tree.

::

    StembridgeError
    ├── RequestError            what was asked for cannot be done as asked
    │   ├── SourceError         the audio file or its region
    │   ├── PresetError         a preset or one of its effects
    │   ├── ModelError          a model, its name, its files or its stems
    │   ├── JobNotFound         no job of that id
    │   └── IdConflict          the id belongs to another request
    ├── OutputError             the result cannot be written: disk, rights, an existing name
    │   └── StorageFailed       the daemon cannot write its job table
    ├── AlignmentError          stems that cannot be placed at the right sample
    ├── ExactnessError          a sum that does not hold what was claimed
    ├── EffectError             an effect gave something that must not be delivered
    │   └── PluginError         a plugin crashed, hung, or cannot be opened
    ├── DaemonUnavailable       no daemon answers and none could be started
    ├── ProtocolError           the two sides do not speak the same language
    ├── Busy                    the daemon holds as many jobs as it takes
    │   └── Leaving             the daemon is about to end
    ├── JobFailed               the job ended in an error of a kind this side does not know
    │   └── Quarantined         the worker died again and again on this job
    └── JobCancelled            somebody cancelled the job

Each has a ``code`` that travels on the wire, a message that names the thing and its value, and a
``hint`` that says what to do. ``from_wire`` turns the three back into an exception of the right class.
"""

from __future__ import annotations

from typing import ClassVar


class StembridgeError(Exception):
    """Base of everything that Stembridge raises on purpose.

    Parameters
    ----------
    message : one line that names the thing and the value
    hint : one line that says what to do about it, or ''
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RequestError(StembridgeError):
    code = "bad_request"


class SourceError(RequestError):
    code = "bad_source"


class PresetError(RequestError):
    code = "bad_preset"


class ModelError(RequestError):
    code = "bad_model"


class JobNotFound(RequestError):
    code = "not_found"
    exit_code = 4


class IdConflict(RequestError):
    code = "conflict"


class OutputError(StembridgeError):
    code = "bad_output"
    exit_code = 73


class StorageFailed(OutputError):
    code = "storage"


class AlignmentError(StembridgeError):
    code = "misaligned"


class ExactnessError(StembridgeError):
    code = "not_exact"


class EffectError(StembridgeError):
    code = "bad_effect"


class PluginError(EffectError):
    code = "bad_plugin"


class DaemonUnavailable(StembridgeError):
    code = "unavailable"
    exit_code = 69


class ProtocolError(StembridgeError):
    code = "bad_protocol"
    exit_code = 69


class Busy(StembridgeError):
    code = "busy"
    exit_code = 75


class Leaving(Busy):
    code = "stopping"


class JobFailed(StembridgeError):
    code = "failed"


class Quarantined(JobFailed):
    code = "quarantined"


class JobCancelled(StembridgeError):
    code = "cancelled"
    exit_code = 130


def _classes(root: type[StembridgeError]) -> dict[str, type[StembridgeError]]:
    found = {root.code: root}
    for sub in root.__subclasses__():
        found |= _classes(sub)
    return found


CLASS_OF_CODE = _classes(StembridgeError)
"""Error class by wire code; a code that is not here becomes `JobFailed`."""


def from_wire(code: str, message: str, hint: str) -> StembridgeError:
    """Return the exception that ``code`` names, ready to be raised."""
    return CLASS_OF_CODE.get(code, JobFailed)(message, hint)
