"""The page docs/effects.md, out of the table: ``python -m stembridge.effects.page > docs/effects.md``."""

from __future__ import annotations

import sys
from textwrap import fill

from stembridge.effects.kinds import KINDS, REFUSED, AnyParameter, EffectKind, Value

_HEAD = """# Effects
What may stand in a preset as `[[stems.NAME.effects]]`, `[[sends.effects]]` and `[[master.effects]]`, below
its `[preset]` with `name` and `use` ([presets](../presets/README.md)). Parameters follow their kind:

```toml
[[stems.vocals.effects]]
kind = "compressor"
threshold_db = -24
ratio = 3
```

This page is made from the table in `bridge/stembridge/effects/kinds.py` by
`python -m stembridge.effects.page > docs/effects.md`. What is not given has its default. A value outside
its range and a parameter of another name are refused. What every effect here keeps to is held by tests:

- Sample for sample in its place: nothing moves a stem against the others, and what looks ahead is waited for.
- A neutral effect is a bypass, bit for bit, and is not even run.
- The result depends on the samples alone: not on block sizes, not on what ran before, not on threads.
- A layout of more than two channels is processed in its pairs and singles.
- NaN, infinity, another count of channels, or silence out of a live stem end the render, and nothing is
  published.

A linear effect on the master runs on every stem; what any other one adds there becomes a stem of its own,
`master_delta`.
"""

_REFUSED_HEAD = """## Refused
Of what pedalboard has, a preset may not ask for these:

| class | why, and what to use |
|---|---|
"""


def write_page() -> str:
    """Return the page, in Markdown."""
    parts = [_HEAD, *(_write_kind(kind) for kind in KINDS.values())]
    refused = "".join(f"| `{name}` | {why} |\n" for name, why in REFUSED.items())
    return "\n".join([*parts, _REFUSED_HEAD + refused])


def _write_kind(kind: EffectKind) -> str:
    lines = [f"## {kind.name}", f"{kind.what[0].upper()}{kind.what[1:]}."]
    if kind.parameters:
        lines += ["", "| parameter | what | allowed | default |", "|---|---|---|---|"]
        lines += [_write_parameter(one) for one in kind.parameters]
    neutral = ", ".join(f"{name} = {_spell(value)}" for name, value in (kind.neutral or {}).items())
    of = f"pedalboard's {kind.class_name}" if kind.class_name else "our own"
    facts = f"{'Linear' if kind.is_linear else 'Not linear'}; {of}; neutral at {neutral or 'no setting'};"
    return "\n".join([*lines, "", fill(f"{facts} tail: {kind.tail}. {kind.notes}", 110)]) + "\n"


def _write_parameter(one: AnyParameter) -> str:
    default = "must be given" if one.default is None else _spell(one.default)
    return f"| `{one.name}` | {one.what} | {one.allowed} | {default} |"


def _spell(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"


if __name__ == "__main__":
    sys.stdout.write(write_page())
