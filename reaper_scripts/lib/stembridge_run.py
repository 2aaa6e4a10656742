# @noindex
# What every Stembridge action runs: notes to the daemon, orders from it, a little in each of REAPER's ticks.
"""`act`: run an action; the conversation that follows is docs/reaper-conversation.md.

REAPER gives `RPR_defer` and `RPR_atexit` to the main script alone, and both take text that is run in the main
script's globals: the action file hands them over, and the text finds this module by its name.
"""

import collections
import importlib
import json
import os
import pathlib
import re
import sys
import traceback

from stembridge_api import (
    SAVED,
    find_active_project,
    is_null,
    is_open,
    list_projects,
    read_item_text,
    read_project_path,
    reaper,
)
from stembridge_apply import Failure, apply, changes_tab, describe_error, must_wait
from stembridge_collect import ProjectClosed, collect, list_selected, listen, read_host
from stembridge_files import GIVE_UP_S, FileRoute, quote_word, start_process
from stembridge_json import write_json

try:
    from stembridge_zmtp import LOST, Daemon, NotSpeakable
except ImportError:
    # A libpython that was opened without its symbols made global has no socket module.
    Daemon = NotSpeakable = None

VERSION = "0.1.0"
"""A host with one interpreter keeps old modules: an action of another version asks for `renew`."""
CONVERSATION = 1

NOTHING = "0"
"""What a script defers that has nothing left to do: REAPER makes an undo step of one that defers nothing."""
ALIVE_S = 1.0
"""A loop of another interpreter that has left no sign of life for longer has ended."""
PART_S = 0.010
"""So much of a tick a long order takes."""
RETRY_S = 1.0
PING_S = 0.5
"""While REAPER plays or records, the daemon hears of it this often: it counts on that, and gives way."""
IS_BUSY = 1 | 4
"""Of the play state: playing, recording."""
BAD_TICKS = 100
"""After so many ticks in a row that raised, the loop ends."""
YES, NO = 6, 7
BOXES = {"yes_no": 4, "yes_no_cancel": 3}
MAX_FIELDS = 16
FIELDS_BYTES = 4096
CLOSED = {"play": {}, "undo": {"done": False}}
"""What comes of orders whose project was closed; what was to be read ends its thread."""

LOOP = None
"""The loop under way in this interpreter."""


def act(action, defer, at_exit):
    """Run an action: start the loop, or leave the action to the one that is under way."""
    global LOOP  # noqa: PLW0603
    if LOOP is not None:
        # Its sign of life may be old: whatever holds up REAPER stops its ticks.
        LOOP.begin(action)
        defer(NOTHING)
        return
    if _is_alive():
        waiting = reaper.GetExtState(SAVED, "inbox")
        reaper.SetExtState(SAVED, "inbox", f"{waiting},{action}" if waiting else action, False)
        defer(NOTHING)
        return
    config_file = pathlib.Path(__file__).absolute().parent.parent / "stembridge_config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        route = choose_route(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reaper.ShowConsoleMsg(
            f"Stembridge: {config_file} cannot be read ({error}): stembridge reaper install\n"
        )
        defer(NOTHING)
        return
    reaper.DeleteExtState(SAVED, "inbox", False)
    LOOP = Loop(config, route, defer)
    LOOP.begin(action)
    at_exit(f"__import__({__name__!r}).leave({LOOP.name!r})")
    tick(LOOP.name)


def renew():
    """Return this module as it lies on the disk now; while a loop is under way, the module that runs it."""
    if LOOP is not None:
        return sys.modules[__name__]
    for name in [name for name in sys.modules if name.startswith("stembridge_")]:
        del sys.modules[name]
    return importlib.import_module(__name__)


def tick(name):
    """Do what one of REAPER's ticks has room for, and ask for the next one."""
    global LOOP  # noqa: PLW0603
    loop = LOOP
    if loop is None or loop.name != name:
        return
    is_over = True
    try:
        loop.live()
        is_over = loop.is_done
    finally:
        if is_over:
            LOOP = None
    if is_over:
        loop.end()
    else:
        loop.defer(f"__import__({__name__!r}).tick({name!r})")


def leave(name):
    """Say that the loop of that name is over: REAPER or the user ended its script."""
    global LOOP  # noqa: PLW0603
    loop = LOOP
    if loop is not None and loop.name == name:
        LOOP = None
        loop.leave()


def choose_route(config):
    """Return the way to the daemon: its socket, or files where this Python cannot speak to it."""
    if Daemon is None:
        return FileRoute(config)
    return DaemonRoute(config)


def _is_alive():
    try:
        age = reaper.time_precise() - float(reaper.GetExtState(SAVED, "alive"))
    except ValueError:
        return False
    return 0 <= age < ALIVE_S


class DaemonRoute:
    """One note at a time to the daemon's socket; asked again until there is an answer.

    Attributes
    ----------
    line : why there is no answer, while there is none; '' where all is well
    """

    def __init__(self, config):
        self.line = ""
        self._cli = config["cli"]
        self._connection_file = config["connection_file"]
        self._daemon = None
        self._number = 0
        self._note = None
        self._is_sent = False
        self._give_up_at = 0.0
        self._connect_at = 0.0
        self._start_at = 0.0

    def send(self, note):
        """Take a note, as JSON; it goes out with the next `poll`."""
        self._number += 1
        self._note = note.encode()
        self._is_sent = False

    def poll(self):
        """Return the reply to the note, or None while there is none.

        Raises
        ------
        NotSpeakable
            This Python cannot speak to the daemon.
        """
        now = reaper.time_precise()
        if self._daemon is None:
            if self._note is None or now < self._connect_at:
                return None
            self._daemon = Daemon(self._connection_file)
            self._is_sent = False
        if self._note is not None and not self._is_sent:
            try:
                self._daemon.send({"t": "reaper", "call": str(self._number)}, self._note)
            except ValueError as error:
                return self._end({"error": {"message": str(error), "hint": "select fewer items"}})
            self._is_sent = True
            self._give_up_at = now + GIVE_UP_S
        message = self._daemon.poll()
        if self._daemon.state == LOST:
            self._fail(now, self._daemon.reason)
        elif message is not None:
            return self._read(now, *message)
        elif self._note is not None and now >= self._give_up_at:
            self._fail(now, f"no answer from the daemon for {GIVE_UP_S:.0f} s")
        return None

    def close(self):
        """End the connection."""
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None

    def _read(self, now, header, body):
        if self._note is None or header.get("call") != str(self._number):
            return None
        if header.get("t") == "orders":
            try:
                return self._end(json.loads(body.decode("utf-8")))
            except ValueError:
                return self._end({"error": {"message": "the daemon's orders are no JSON"}})
        if header.get("code") == "stopping":
            self._fail(now, "the daemon is leaving")
            return None
        return self._end({"error": header})

    def _end(self, reply):
        self._note = None
        self._start_at = 0.0
        self.line = ""
        return reply

    def _fail(self, now, reason):
        self._daemon.close()
        self._daemon = None
        if self._note is None:
            return
        self.line = f"{reason}: trying again"
        self._connect_at = now + RETRY_S
        if now >= self._start_at:
            self._start_at = now + GIVE_UP_S
            start_process(quote_word(self._cli), "daemon", "start")


class Thread:
    """What an action has set going; its orders are about project, selection and cursor of that moment.

    By the time the daemon answers, the user may have gone on to the next items.
    """

    def __init__(self):
        self.panel = {}
        self.enter_project()

    def enter_project(self):
        """Belong to the project in front, and to what is selected there."""
        self.project = find_active_project()
        self.selected = {}
        self.host = read_host(self.project)
        self._unnamed = collections.deque(list_selected(self.project))

    def read_host(self):
        """Return what every note says of REAPER. A recording counts in whichever tab it runs."""
        active = find_active_project()
        project = self.project if is_open(self.project) else active
        play = reaper.GetPlayStateEx(project) | reaper.GetPlayStateEx(active)
        return dict(self.host, play=play, project=read_project_path(project))

    def name_selection(self, places):
        """Return whether all GUIDs of what was selected are known; read as many as a tick has room for."""
        until = reaper.time_precise() + PART_S
        while self._unnamed and reaper.time_precise() < until:
            item = self._unnamed.popleft()
            if is_open(self.project) and reaper.ValidatePtr2(self.project, item, "MediaItem*"):
                guid = read_item_text(item, "GUID")
                self.selected[guid] = True
                places[guid] = item
        return not self._unnamed


class Loop:
    """All that is under way: notes, orders and the lines to be shown.

    Attributes
    ----------
    name : told from that of every other loop, of whichever script
    defer : the function `RPR_defer` of the script in which the loop runs
    bad_ticks : so many ticks in a row have raised
    """

    def __init__(self, config, route, defer):
        self.name = os.urandom(8).hex()
        self.defer = defer
        self.bad_ticks = 0
        self._config = config
        self._route = route
        self._notes = collections.deque()
        self._asking = None
        self._is_ping = False
        self._ping_at = 0.0
        self._orders = collections.deque()
        self._waits = []
        self._current = None
        self._part = None
        self._silent = collections.deque()
        self._places = {}
        self._shown_threads = []
        self._blocked = ""
        self._lines = []
        self._has_error = False
        self._shown = None
        self._has_failed = False
        self._alive = ""

    @property
    def is_done(self):
        if self.bad_ticks >= BAD_TICKS:
            return True
        return not (
            self._notes or self._asking or self._orders or self._waits or self._part or self._silent
        ) and not reaper.GetExtState(SAVED, "inbox")

    def begin(self, action):
        """Put the note of an action behind those that wait."""
        self._notes.append((Thread(), {"say": "act", "action": action}))

    def live(self):
        """Do one tick's work, whatever becomes of it."""
        try:
            self._step()
        except Exception as error:  # noqa: BLE001  The top of a ReaScript: REAPER would end it and lose the notes.
            self._survive(error)

    def _step(self):
        self._show_life()
        inbox = reaper.GetExtState(SAVED, "inbox")
        if inbox:
            reaper.DeleteExtState(SAVED, "inbox", False)
            for action in inbox.split(","):
                self.begin(action)
        self._exchange()
        self._work()
        self._show_status()
        self.bad_ticks = 0

    def end(self):
        """Show what was told, if any of it was an error, and leave."""
        if self._has_error:
            reaper.ShowConsoleMsg("".join(f"Stembridge: {line}\n" for line in self._lines))
        reaper.Help_Set(f"Stembridge: {self._lines[-1]}" if self._lines else "", False)
        self.leave()

    def leave(self):
        """End the conversation; a newer loop's sign of life stays."""
        self._route.close()
        if reaper.GetExtState(SAVED, "alive") == self._alive:
            reaper.DeleteExtState(SAVED, "alive", False)

    def tell(self, text, is_error):
        """Keep a line for the end."""
        self._lines.append(text)
        self._has_error = self._has_error or is_error

    def _survive(self, error):
        """Say what failed; an apply is answered, so that a batch goes on without what it was to place."""
        if self._current is None:
            self.bad_ticks += 1
            if not self._has_failed:
                self._has_failed = True
                trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
                reaper.ShowConsoleMsg(f"Stembridge: a defect of this script, please report it:\n{trace}\n")
            return
        (thread, order), self._current = self._current, None
        text = describe_error(order.get("do"), error)
        if order.get("do") == "apply":
            self._answer(thread, order, {"ok": False, "reason": "error", "at": 0, "text": text})
        else:
            self.tell(text, True)

    def _show_life(self):
        self._alive = f"{reaper.time_precise():.17g}"
        reaper.SetExtState(SAVED, "alive", self._alive, False)

    def _show_status(self):
        line = (
            self._route.line
            or self._blocked
            or describe_panels([thread.panel for thread in self._shown_threads])
        )
        if line != self._shown:
            self._shown = line
            reaper.Help_Set(f"Stembridge: {line}" if line else "", False)

    def _exchange(self):
        if self._asking is None and self._notes and self._notes[0][0].name_selection(self._places):
            thread, said = self._notes.popleft()
            self._send(thread, said, thread.read_host())
        elif self._asking is None:
            self._ping()
        try:
            reply = self._route.poll()
        except NotSpeakable:
            self._route.close()
            self._route = FileRoute(self._config)
            self._route.send(self._asking[1])
            return
        if reply is not None:
            thread, self._asking = self._asking[0], None
            if not self._is_ping:
                self._take_reply(thread, reply)

    def _send(self, thread, said, host):
        said = dict(said, v=CONVERSATION, script=f"python {VERSION}", host=host, memory=read_memory())
        note = write_json(said)
        self._asking = (thread, note)
        self._is_ping = said["say"] == "ping"
        self._ping_at = reaper.time_precise() + PING_S
        self._route.send(note)

    def _ping(self):
        """Say that REAPER plays or records while there is nothing else to say."""
        threads = self._list_busy()
        if not threads or reaper.time_precise() < self._ping_at:
            return
        host = threads[0].read_host()
        if host["play"] & IS_BUSY:
            self._send(threads[0], {"say": "ping"}, host)

    def _list_busy(self):
        """Return the threads for which there is something to do, the one whose order is under way first."""
        threads = [] if self._part is None else [self._part[0]]
        threads += [entry[0] for entry in (*self._notes, *self._orders)]
        return threads + [wait[1] for wait in self._waits]

    def _take_reply(self, thread, reply):
        error = reply.get("error")
        if error:
            hint = error.get("hint")
            self.tell(f"{error.get('message')} ({hint})" if hint else str(error.get("message")), True)
            return
        if reply.get("panel"):
            self._take_panel(thread, reply["panel"])
        self._orders.extend((thread, order) for order in reply["orders"])

    def _take_panel(self, thread, panel):
        """Keep what a thread shows, the last to speak last; what is over makes room for what is new."""
        others = [one for one in self._shown_threads if one is not thread]
        if not thread.panel:
            busy = self._list_busy()
            others = [one for one in others if one in busy]
        thread.panel = panel
        self._shown_threads = [*others, thread]

    def _answer(self, thread, order, result):
        if "then" in order:
            said = {"say": "resume", "then": order["then"], "with": order.get("with"), "result": result}
            self._notes.append((thread, said))

    def _work(self):
        now = reaper.time_precise()
        due = [wait for wait in self._waits if wait[0] <= now]
        self._waits = [wait for wait in self._waits if wait[0] > now]
        for _, thread, order in due:
            self._answer(thread, order, {})
        if self._part is not None:
            self._go_on()
            return
        found = self._next_order()
        if found is not None:
            self._carry_out(*found)
        elif self._silent:
            self._build_peaks()

    def _next_order(self):
        """Return the first order that can be done now: an apply may have to wait for its tab."""
        self._blocked = ""
        waiting = []
        for place, (thread, order) in enumerate(self._orders):
            if thread in waiting:
                continue
            if order.get("do") == "apply" and must_wait(find_project(thread, order), order.get("ops")):
                waiting.append(thread)
                self._blocked = "stems are placed when their project's tab is in front again"
                continue
            del self._orders[place]
            return thread, order
        return None

    def _carry_out(self, thread, order):
        self._current = (thread, order)
        name = order.get("do")
        if name in IN_PARTS:
            self._part = (thread, order, IN_PARTS[name](self, thread, order))
            self._go_on()
        elif name in CLOSED and not is_open(thread.project):
            self._finish(thread, order, CLOSED[name])
        elif name in ORDERS:
            self._finish(thread, order, ORDERS[name](self, thread, order))
        else:
            raise Failure(f"this script knows no order {name!r} (stembridge reaper install)")

    def _finish(self, thread, order, result):
        self._current = None
        if result is not None:
            self._answer(thread, order, result)

    def _go_on(self):
        """Do as much of a long order as a tick has room for."""
        thread, order, steps = self._part
        self._current = (thread, order)
        until = reaper.time_precise() + PART_S
        try:
            while reaper.time_precise() < until:
                next(steps)
        except StopIteration as end:
            self._part = None
            result, lines = end.value
            for line in lines:
                self.tell(line, True)
            self._finish(thread, order, result)
        except ProjectClosed:
            self._part = None
            self.tell("the project was closed before it was read", True)
        except Exception:
            self._part = None
            raise
        self._current = None

    def _build_peaks(self):
        """Build a piece of the peaks of one new take's media: begin, go on, finish."""
        entry = self._silent[0]
        source = None
        if is_open(entry.project) and reaper.ValidatePtr2(entry.project, entry.take, "MediaItem_Take*"):
            source = reaper.GetMediaItemTake_Source(entry.take)
        if source is None or is_null(source) or entry.source not in (None, source):
            self._silent.popleft()
        elif entry.source is None:
            entry.source = source
            if not reaper.PCM_Source_BuildPeaks(source, 0):
                self._silent.popleft()
        elif not reaper.PCM_Source_BuildPeaks(source, 1):
            reaper.PCM_Source_BuildPeaks(source, 2)
            self._silent.popleft()

    def _apply(self, thread, order):
        project = find_project(thread, order)
        result, takes = apply(project, order, self._places)
        self._silent.extend(Silent(project, take) for take in takes)
        if changes_tab(order["ops"]):
            thread.enter_project()
        return result

    def _wait(self, thread, order):
        self._waits.append((reaper.time_precise() + order["seconds"], thread, order))

    def _ask(self, thread, order):
        result = ask_user(order)
        # A dialog stops the ticks, not the user: an action run right after it must find this loop alive.
        self._show_life()
        return result

    def _tell(self, thread, order):
        self.tell(order["text"], bool(order.get("is_error")))
        return {}

    def _remember(self, thread, order):
        memory = read_memory()
        memory[order["key"]] = order["value"]
        text = json.dumps(memory, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        reaper.SetExtState(SAVED, "memory", text, True)
        return {}

    def _play(self, thread, order):
        (reaper.OnPlayButtonEx if order["on"] else reaper.OnStopButtonEx)(thread.project)
        return {}

    def _undo(self, thread, order):
        is_ours = reaper.Undo_CanUndo2(thread.project) == order["label"]
        return {"done": is_ours and bool(reaper.Undo_DoUndo2(thread.project))}


class Silent:
    """A new take whose media has no peaks yet; ``source`` is that media once they are begun.

    The one pointer that is kept from tick to tick, and asked for before each use.
    """

    def __init__(self, project, take):
        self.project = project
        self.take = take
        self.source = None


def read_memory():
    """Return what orders have asked to be remembered."""
    try:
        memory = json.loads(reaper.GetExtState(SAVED, "memory"))
    except ValueError:
        return {}
    return memory if isinstance(memory, dict) else {}


def find_project(thread, order):
    """Return the project that an apply is for: that of its path, where one is given and open."""
    path = order.get("project")
    if not path:
        return thread.project
    found = [project for project, its_path in list_projects() if its_path == path]
    return thread.project if not found or thread.project in found else found[0]


def ask_user(order):
    """Return the user's answer to a question of any kind."""
    kind, title = order["kind"], order["title"]
    values = []
    if kind == "fields":
        values = _ask_fields(title, order["captions"], order["values"])
        answer = "cancel" if values is None else "yes"
    elif kind == "file":
        is_chosen, path = reaper.GetUserFileNameForRead(order.get("path") or "", title, "")
        answer = "yes" if is_chosen else "cancel"
        values = [path] if is_chosen else []
    else:
        answer = {YES: "yes", NO: "no"}.get(reaper.MB(order["text"], title, BOXES[kind]), "cancel")
    return {"answer": answer, "values": values or []}


def _ask_fields(title, captions, values):
    """Return what the user typed, or None. Values are parted by line ends: a comma may be in any of them."""
    captions = [re.sub(r"[,\x00-\x1f\x7f]+", " ", caption) for caption in captions[:MAX_FIELDS]]
    values = [re.sub(r"[\x00-\x1f\x7f]+", " ", value) for value in values[:MAX_FIELDS]]
    asked = ",".join([*captions, "extrawidth=120", "separator=\n"])
    is_given, text = reaper.GetUserInputs(title, len(captions), asked, "\n".join(values), FIELDS_BYTES)
    return text.split("\n")[: len(captions)] if is_given else None


def describe_panels(panels):
    """Return the status line: what was said last, how far all is and how long all of it will take."""
    if not panels:
        return ""
    parts = []
    weights = [(max(len(panel.get("rows") or ()), 1), panel.get("fraction")) for panel in panels]
    total = sum(weight for weight, fraction in weights if fraction is not None)
    if total:
        done = sum(weight * fraction for weight, fraction in weights if fraction is not None)
        parts.append(f"{done / total:.0%}")
    times = [panel["eta_s"] for panel in panels if panel.get("eta_s") is not None]
    if times:
        eta_s = round(sum(times))
        parts.append(f"{eta_s} s left" if eta_s < 100 else f"{round(eta_s / 60)} min left")
    line = panels[-1].get("line") or ""
    return f"{line} ({', '.join(parts)})" if parts else line


IN_PARTS = {
    "collect": lambda loop, thread, order: collect(
        thread.project, order, thread.selected, thread.host, loop._places
    ),
    "listen": lambda _loop, thread, order: listen(thread.project, order),
}
"""Orders that may take several ticks."""
ORDERS = {
    "apply": Loop._apply,
    "wait": Loop._wait,
    "ask": Loop._ask,
    "tell": Loop._tell,
    "remember": Loop._remember,
    "play": Loop._play,
    "undo": Loop._undo,
}
"""Name of an order -> what carries it out and returns its result; None where nothing comes of it (yet)."""
