# @noindex
# REAPER's functions as Stembridge's Python scripts call them: only what was asked for comes back.
"""`reaper`: every API function under its own name, without the echo of its arguments.

REAPER's Python gives back the return value and all arguments as one tuple; `OUTPUTS` says which of them are
results, so that what comes back is what a Lua script gets. Where one of two is left, it comes back alone.
"""

import codecs
import itertools

import reaper_python

VERSION = "0.1.0"

OUTPUTS = {
    "EnumProjects": (0, 2),
    "GetProjectName": (1,),
    "GetProjectPathEx": (1,),
    "GetSetProjectInfo_String": (0, 3),
    "GetSetMediaTrackInfo_String": (0, 3),
    "GetSetMediaItemInfo_String": (0, 3),
    "GetSetMediaItemTakeInfo_String": (0, 3),
    "GetItemStateChunk": (0, 2),
    "GetTakeMarker": (0, 3, 5),
    "SetTakeMarker": (0,),
    "PCM_Source_GetSectionInfo": (0, 2, 3, 4),
    "GetMediaSourceType": (1,),
    "GetMediaSourceFileName": (1,),
    "GetMediaSourceLength": (0, 2),
    "GetAudioAccessorSamples": (0,),
    "GetSet_LoopTimeRange2": (3, 4),
    "GetUserInputs": (0, 4),
    "GetUserFileNameForRead": (0, 1),
}
"""Function -> places of its results in the tuple."""

FLAG_AND_TEXT = (
    "GetSetProjectInfo_String", "GetSetMediaTrackInfo_String", "GetSetMediaItemInfo_String",
    "GetSetMediaItemTakeInfo_String", "GetItemStateChunk", "GetUserInputs", "GetUserFileNameForRead",
)  # fmt: skip
"""Functions that return whether there is a text, and the text: there is one where it cannot be decoded."""

MAY_BE_NULL = ("ExecProcess", "Undo_CanUndo2")
"""Functions whose text may be NULL, on which REAPER's own wrapper stumbles after the call was made."""

NAME_BYTES = 1024
PATH_BYTES = 4096
CHUNK_BYTES = 4 * 1024 * 1024
"""What REAPER's Python makes room for; a longer chunk comes back cut."""

MAX_WRAPPERS = 16

SAVED = "stembridge"
"""The section of our values in REAPER's ExtState."""
TAG = "P_EXT:stembridge"


class Spoilt(str):
    """A text that was no UTF-8, with a question mark for each bad byte."""

    __slots__ = ()


def spoil_text(raw):
    """Return bytes that are no UTF-8 as a text."""
    return Spoilt(raw.decode("utf-8", "stembridge_question_marks"))


codecs.register_error("stembridge_question_marks", lambda error: ("?" * (error.end - error.start), error.end))


class _Reaper:
    def __getattr__(self, name):
        function = getattr(reaper_python, "RPR_" + name)
        outputs = OUTPUTS.get(name)

        def call(*arguments):
            try:
                returned = function(*arguments)
            except UnicodeDecodeError as error:
                if name in FLAG_AND_TEXT:
                    return 1, spoil_text(error.object)
                if outputs is not None and len(outputs) > 1:
                    raise
                return spoil_text(error.object)
            except AttributeError:
                if name not in MAY_BE_NULL:
                    raise
                return None
            if outputs is None:
                return returned
            if len(outputs) == 1:
                return returned[outputs[0]]
            return tuple(returned[place] for place in outputs)

        setattr(self, name, call)
        return call


reaper = _Reaper()


def is_null(pointer):
    """Return whether a pointer, which is a text, points nowhere."""
    return int(pointer.rpartition("0x")[2], 16) == 0


def is_open(project):
    """Return whether the project's tab is still there."""
    return bool(reaper.ValidatePtr2(0, project, "ReaProject*"))


def find_active_project():
    """Return the project whose tab is in front. No room for its path: a path that is no UTF-8 raises."""
    return reaper.EnumProjects(-1, "", 1)[0]


def list_projects():
    """Yield each open project and its path, '' while it is unsaved."""
    for number in itertools.count():
        project = reaper.EnumProjects(number, "", 1)[0]
        if is_null(project):
            return
        try:
            path = reaper.EnumProjects(number, "", PATH_BYTES)[1]
        except UnicodeDecodeError as error:
            path = spoil_text(error.object)
        yield project, path


def read_project_path(project):
    """Return the project's path, '' while it is unsaved."""
    return next((path for found, path in list_projects() if found == project), "")


def read_item_text(item, parm):
    """Return a text of an item, '' where it has none."""
    is_there, text = reaper.GetSetMediaItemInfo_String(item, parm, "", False)
    return text if is_there else ""


def read_take_text(take, parm):
    """Return a text of a take, '' where it has none."""
    is_there, text = reaper.GetSetMediaItemTakeInfo_String(take, parm, "", False)
    return text if is_there else ""


def read_track_text(track, parm):
    """Return a text of a track, '' where it has none."""
    is_there, text = reaper.GetSetMediaTrackInfo_String(track, parm, "", False)
    return text if is_there else ""


def find_root(source):
    """Return the source of the media file behind any sections, and how many wrappers there are."""
    for depth in range(MAX_WRAPPERS):
        parent = reaper.GetMediaSourceParent(source)
        if is_null(parent):
            return source, depth
        source = parent
    return source, MAX_WRAPPERS


def read_take_path(take):
    """Return the path of the media that a take plays, '' where it plays none."""
    source = reaper.GetMediaItemTake_Source(take)
    if is_null(source):
        return ""
    return reaper.GetMediaSourceFileName(find_root(source)[0], "", PATH_BYTES)
