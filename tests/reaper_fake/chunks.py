"""Item state chunks: the text of an item, and a text with other sources put back in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reaper_fake.contract import ContractBreach
from reaper_fake.media import MediaShelf
from reaper_fake.model import Item, Source, Take


@dataclass(slots=True)
class Block:
    """One `<NAME ... >` block: its head, and its lines and blocks in order."""

    head: str
    body: list[str | Block] = field(default_factory=list)

    def lines(self, depth: int = 0) -> list[str]:
        """Return the text of the block, indented as in a project file."""
        inner = []
        for part in self.body:
            inner += part.lines(depth + 1) if isinstance(part, Block) else ["  " * (depth + 1) + part]
        return ["  " * depth + "<" + self.head, *inner, "  " * depth + ">"]


def write_item_chunk(item: Item) -> str:
    """Return the state chunk of `item`: the active take is marked, every take has its SOURCE block."""
    values = item.values
    block = Block("ITEM")
    block.body += [
        f"POSITION {_number(item.position_s)}",
        f"SNAPOFFS {_number(values.get('D_SNAPOFFSET', 0))}",
        f"LENGTH {_number(item.length_s)}",
        f"LOOP {_number(values.get('B_LOOPSRC', 0))}",
        f"ALLTAKES {_number(values.get('B_ALLTAKESPLAY', 0))}",
        "FADEIN {} {} {} {} 0 {}".format(*_fade(item, "IN")),
        "FADEOUT {} {} {} {} 0 {}".format(*_fade(item, "OUT")),
        f"MUTE {_number(values.get('B_MUTE_ACTUAL', 0))} {_number(values.get('C_MUTE_SOLO', 0))}",
        f"SEL {_number(values.get('B_UISEL', 0))}",
        f"IGUID {item.guid}",
    ]
    for index, take in enumerate(item.takes):
        is_active = take is item.active_take
        if index:
            block.body.append("TAKE SEL" if is_active else "TAKE")
        block.body += _take_lines(take, item)
        if take.source is not None:
            block.body.append(_source_block(take.source))
    return "\n".join(block.lines()) + "\n"


def _take_lines(take: Take, item: Item) -> list[str]:
    values = take.values
    return [
        f"NAME {_quoted(take.name)}",
        "VOLPAN "
        + " ".join(
            _number(value)
            for value in (
                item.values.get("D_VOL", 1),
                values.get("D_PAN", 0),
                values.get("D_VOL", 1),
                values.get("D_PANLAW", -1),
            )
        ),
        f"SOFFS {_number(values.get('D_STARTOFFS', 0))}",
        "PLAYRATE {} {} {} {}".format(
            *(_number(values.get(key, 0)) for key in ("D_PLAYRATE", "B_PPITCH", "D_PITCH", "I_PITCHMODE"))
        ),
        f"CHANMODE {_number(values.get('I_CHANMODE', 0))}",
        f"GUID {take.guid}",
    ]


def _source_block(source: Source) -> Block:
    if source.parent is None:
        return Block(f"SOURCE {source.kind}", [f"FILE {_quoted(source.path)}"] if source.path else [])
    block = Block("SOURCE SECTION")
    block.body.append(f"LENGTH {_number(source.length_s)}")
    if source.is_reversed:
        block.body.append("MODE 3" if source.is_whole else "MODE 2")
    block.body += [
        f"STARTPOS {_number(source.offset_s)}",
        f"OVERLAP {_number(source.overlap_s)}",
        _source_block(source.parent),
    ]
    return block


def apply_item_chunk(item: Item, chunk: str, shelf: MediaShelf) -> None:
    """Give the takes of `item` the sources of `chunk`, which may differ from the item's own in nothing else.

    Every take becomes a new object with its old GUID, as REAPER builds the takes anew.
    """
    mine, theirs = parse_chunk(write_item_chunk(item)), parse_chunk(chunk)
    if mine.head != theirs.head or len(mine.body) != len(theirs.body):
        raise ContractBreach(f"the chunk is not one of this item: {theirs.head!r}")
    sources: list[Source | None] = []
    for ours, given in zip(mine.body, theirs.body, strict=True):
        if isinstance(ours, Block) and isinstance(given, Block) and given.head.startswith("SOURCE "):
            sources.append(None if ours == given else read_source_block(given, shelf))
        elif ours != given:
            raise ContractBreach(f"SetItemStateChunk: {given!r} in place of {ours!r} is not understood here")
    for index, take in enumerate(item.takes):
        fresh = take.copy()
        fresh.item, take.item = item, None
        item.takes[index] = fresh
    for take, source in zip((take for take in item.takes if take.source), sources, strict=True):
        if source is not None:
            take.set_source(source)


def read_source_block(block: Block, shelf: MediaShelf) -> Source:
    """Return the source that a SOURCE block describes."""
    kind = block.head.split()[1]
    fields = {line.split()[0]: _words(line)[1:] for line in block.body if isinstance(line, str)}
    inner = [part for part in block.body if isinstance(part, Block)]
    if kind == "SECTION":
        unknown = set(fields) - {"LENGTH", "STARTPOS", "MODE", "OVERLAP"}
        if unknown or len(inner) != 1 or not inner[0].head.startswith("SOURCE "):
            raise ContractBreach(
                f"SOURCE SECTION with {sorted(unknown)} and {len(inner)} blocks is not understood"
            )
        mode = int(fields.get("MODE", ["0"])[0])
        if mode not in {0, 2, 3}:
            raise ContractBreach(f"SOURCE SECTION with MODE {mode} is not understood")
        parent = read_source_block(inner[0], shelf)
        is_whole = mode == 3
        if not is_whole and ("LENGTH" not in fields or float(fields["LENGTH"][0]) <= 0):
            raise ContractBreach("SOURCE SECTION without a LENGTH")
        return Source(
            "SECTION",
            parent=parent,
            offset_s=0.0 if is_whole else float(fields.get("STARTPOS", ["0"])[0]),
            length_s=float(parent.exact_length_s) if is_whole else float(fields["LENGTH"][0]),
            is_reversed=mode in {2, 3},
            is_whole=is_whole,
            overlap_s=float(fields.get("OVERLAP", ["0.01"])[0]),
        )
    if inner or set(fields) != {"FILE"} or len(fields["FILE"]) != 1:
        raise ContractBreach(f"SOURCE {kind} with {sorted(fields)} is not understood")
    source = shelf.source(fields["FILE"][0])
    if source is None or source.kind != kind:
        raise ContractBreach(f"SOURCE {kind} names {fields['FILE'][0]}, which is {source and source.kind}")
    return source


def parse_chunk(text: str) -> Block:
    """Return the one block that `text` is."""
    root = Block("")
    stack = [root]
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("<"):
            block = Block(word[1:])
            stack[-1].body.append(block)
            stack.append(block)
        elif word == ">":
            stack.pop()
            if not stack:
                raise ContractBreach("a chunk closes more blocks than it opens")
        elif word:
            stack[-1].body.append(word)
    if len(stack) != 1 or len(root.body) != 1 or not isinstance(root.body[0], Block):
        raise ContractBreach("a chunk is not one closed block")
    return root.body[0]


def _fade(item: Item, side: str) -> tuple[str, ...]:
    values = item.values
    keys = (
        f"C_FADE{side}SHAPE",
        f"D_FADE{side}LEN",
        f"D_FADE{side}LEN_AUTO",
        f"C_FADE{side}SHAPE",
        f"D_FADE{side}DIR",
    )
    return tuple(_number(values.get(key, 0)) for key in keys)


def _number(value: float) -> str:
    """Return `value` with as many digits as it takes."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _words(line: str) -> list[str]:
    """Return the words of a line without their quotes."""
    return [
        word[1:-1] if word[0] in "\"'`" else word
        for word in re.findall(r"""\"[^\"]*\"|'[^']*'|`[^`]*`|\S+""", line)
    ]


def _quoted(text: str) -> str:
    """Return `text` in the quotes that it does not hold."""
    for mark in "\"'`":
        if mark not in text:
            return f"{mark}{text}{mark}"
    return "`" + text.replace("`", "'") + "`"
