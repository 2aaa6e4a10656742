"""The table of effects: what each does, its parameters, their units and ranges, and what is refused and why.

Checks, the stream, the presets and docs/effects.md all read this one table. Ranges are narrower than what
pedalboard 0.9.26 takes: it accepts a feedback of 1000 and gives NaN. Standard library only.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.errors import PresetError
from stembridge.toml_text import spell_value

Value = float | bool | str
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number.

    Parameters
    ----------
    unit : as people write it; '' for a ratio or a share
    attribute : what pedalboard calls it; '' where it is ours alone
    scale : pedalboard's number is ours times this
    is_whole : no fraction
    """

    name: str
    what: str
    unit: str
    low: float
    high: float
    default: float
    attribute: str = ""
    scale: float = 1.0
    is_whole: bool = False

    @property
    def allowed(self) -> str:
        """What a preset may say."""
        span = f"{self.low:g} to {self.high:g}"
        return f"{'a whole number, ' * self.is_whole}{span}{f' {self.unit}' * bool(self.unit)}"

    def find_fault(self, value: object) -> str:
        """Return what is wrong with a value; '' where nothing is."""
        fault = find_number_fault(value, self.low, self.high)
        is_fraction = not fault and self.is_whole and isinstance(value, float) and not value.is_integer()
        return "is no whole number" if is_fraction else fault


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    name: str
    what: str
    default: bool
    attribute: str = ""

    @property
    def allowed(self) -> str:
        """What a preset may say."""
        return "true or false"

    def find_fault(self, value: object) -> str:
        """Return what is wrong with a value; '' where nothing is."""
        return "" if isinstance(value, bool) else "is no truth"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words; ``members`` is the pedalboard enumeration that has them."""

    name: str
    what: str
    options: tuple[str, ...]
    default: str
    attribute: str = ""
    members: str = ""

    @property
    def allowed(self) -> str:
        """What a preset may say."""
        return ", ".join(self.options[:-1]) + f" or {self.options[-1]}"

    def find_fault(self, value: object) -> str:
        """Return what is wrong with a value; '' where nothing is."""
        return "" if value in self.options else "is none of its words"


@dataclass(frozen=True, slots=True)
class File:
    """A file that is there; it must be given."""

    name: str
    what: str
    default: None = None
    attribute: str = ""

    @property
    def allowed(self) -> str:
        """What a preset may say."""
        return "the path of a file that is there"

    def find_fault(self, value: object) -> str:
        """Return what is wrong with a value; '' where nothing is."""
        is_there = isinstance(value, str) and bool(value) and "\0" not in value and Path(value).is_file()
        return "" if is_there else "is no file"


AnyParameter = Parameter | Switch | Choice | File


@dataclass(frozen=True, slots=True)
class EffectKind:
    """One kind of effect.

    Parameters
    ----------
    class_name : pedalboard's class; '' where we compute it ourselves
    is_linear : what it does to a sum is the sum of what it does to the parts
    neutral : the values that make it a bypass, sample for sample; None where there are none
    tail : what goes on after the last sample
    is_silencing : silence out of a live stem is a result, not a fault
    """

    name: str
    what: str
    class_name: str
    parameters: tuple[AnyParameter, ...]
    is_linear: bool
    neutral: Mapping[str, Value] | None = None
    tail: str = "none"
    notes: str = ""
    is_silencing: bool = False

    def parameter(self, name: str) -> AnyParameter | None:
        """Return the parameter of that name; None where there is none."""
        return next((one for one in self.parameters if one.name == name), None)

    def settle(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return a value for every parameter: the given one, else its default."""
        defaults = {one.name: one.default for one in self.parameters if one.default is not None}
        return {**defaults, **values}


def _share(name: str, what: str, default: float, attribute: str, scale: float = 1.0) -> Parameter:
    return Parameter(name, what, "", 0, 1, default, attribute, scale)


def _cutoff_hz(default: float) -> Parameter:
    return Parameter("cutoff_hz", "corner", "Hz", 20, 20000, default, "cutoff_frequency_hz")


_POLES = Parameter("poles", "6 dB per octave each, and 3 dB at the corner", "", 1, 8, 1, is_whole=True)
_Q = Parameter("q", "narrowness", "", 0.1, 10, 0.7071, "q")
_ATTACK_MS = Parameter("attack_ms", "how fast it takes hold", "ms", 0.1, 500, 1, "attack_ms")
_RELEASE_MS = Parameter("release_ms", "how fast it lets go", "ms", 1, 5000, 100, "release_ms")
_LINKED = Switch("linked", "one gain curve for a pair, so that the image stays where it is", True)
_EQ_GAIN_DB = Parameter("gain_db", "lift or cut", "dB", -30, 30, 0, "gain_db")

_ROUNDING = (
    "pedalboard computes it in 32 bits: at a corner of 40 Hz its rounding noise is 70 dB below the stem at"
    " 48 kHz and 60 dB at 96 kHz, and less the higher the corner is."
)

_TABLE = (
    EffectKind(
        "gain",
        "makes louder or quieter",
        "Gain",
        (Parameter("gain_db", "level", "dB", -60, 24, 0, "gain_db"),),
        is_linear=True,
        neutral={"gain_db": 0.0},
    ),
    EffectKind(
        "compressor",
        "turns loud passages down",
        "Compressor",
        (
            Parameter("threshold_db", "where it begins", "dBFS", -80, 0, -24, "threshold_db"),
            Parameter("ratio", "dB in for one dB out above it", "", 1, 100, 3, "ratio"),
            _ATTACK_MS,
            _RELEASE_MS,
            _LINKED,
        ),
        is_linear=False,
        neutral={"ratio": 1.0},
        notes="pedalboard compresses each channel for itself, which moves the image; linked, the louder"
        " channel steers both. No make-up gain.",
    ),
    EffectKind(
        "gate",
        "turns quiet passages down",
        "NoiseGate",
        (
            Parameter("threshold_db", "below it, quieter", "dBFS", -100, 0, -50, "threshold_db"),
            Parameter("ratio", "dB out for one dB in below it", "", 1, 100, 10, "ratio"),
            _ATTACK_MS,
            _RELEASE_MS,
            _LINKED,
        ),
        is_linear=False,
        neutral={"ratio": 1.0},
        notes="pedalboard gates each channel for itself; linked, the louder channel steers both.",
    ),
    EffectKind(
        "limiter",
        "holds peaks below a ceiling",
        "BrickwallLimiter",
        (
            Parameter("ceiling_db", "no sample is above it", "dBFS", -40, 0, -1, "ceiling_db"),
            Parameter("release_ms", "how fast it lets go", "ms", 1, 5000, 100, "release_ms"),
            Parameter("lookahead_ms", "how early it begins", "ms", 0.1, 100, 5, "lookahead_ms"),
        ),
        is_linear=False,
        notes="What stays below the ceiling is not touched. One gain for both channels of a pair. Peaks"
        " between samples may lie above it (0.7 dB, measured on loud noise): for a true-peak ceiling that"
        " keeps the sum exact use master.ceiling_dbtp.",
    ),
    EffectKind(
        "low_cut",
        "takes away what is below the corner",
        "HighpassFilter",
        (_cutoff_hz(50), _POLES),
        is_linear=True,
        tail="a few periods of the corner",
    ),
    EffectKind(
        "high_cut",
        "takes away what is above the corner",
        "LowpassFilter",
        (_cutoff_hz(12000), _POLES),
        is_linear=True,
        tail="a few periods of the corner",
    ),
    EffectKind(
        "peak",
        "lifts or cuts around a frequency",
        "PeakFilter",
        (_cutoff_hz(1000), _EQ_GAIN_DB, _Q),
        is_linear=True,
        neutral={"gain_db": 0.0},
        tail="a few periods of the corner",
        notes=_ROUNDING,
    ),
    EffectKind(
        "low_shelf",
        "lifts or cuts what is below the corner",
        "LowShelfFilter",
        (_cutoff_hz(150), _EQ_GAIN_DB, _Q),
        is_linear=True,
        neutral={"gain_db": 0.0},
        tail="a few periods of the corner",
        notes=_ROUNDING,
    ),
    EffectKind(
        "high_shelf",
        "lifts or cuts what is above the corner",
        "HighShelfFilter",
        (_cutoff_hz(6000), _EQ_GAIN_DB, _Q),
        is_linear=True,
        neutral={"gain_db": 0.0},
        tail="a few periods of the corner",
        notes=_ROUNDING,
    ),
    EffectKind(
        "ladder",
        "a synthesizer's filter, with its drive",
        "LadderFilter",
        (
            Choice(
                "mode",
                "what passes, and how steeply",
                ("lpf12", "hpf12", "bpf12", "lpf24", "hpf24", "bpf24"),
                "lpf12",
                "mode",
                "Mode",
            ),
            Parameter("cutoff_hz", "corner", "Hz", 20, 20000, 200, "cutoff_hz"),
            _share("resonance", "how much it rings at the corner", 0, "resonance"),
            Parameter("drive", "how hard it saturates", "", 1, 20, 1, "drive"),
        ),
        is_linear=False,
        tail="a few periods of the corner",
        notes="It saturates even at drive 1.",
    ),
    EffectKind(
        "chorus",
        "copies that drift in time",
        "Chorus",
        (
            Parameter("rate_hz", "how fast they drift", "Hz", 0.01, 20, 1, "rate_hz"),
            _share("depth", "how far they drift", 0.25, "depth"),
            Parameter("centre_delay_ms", "how late they are", "ms", 1, 100, 7, "centre_delay_ms"),
            Parameter("feedback", "how much goes round again", "", -0.95, 0.95, 0, "feedback"),
            _share("mix", "share of the effect; the rest is dry", 0.5, "mix"),
        ),
        is_linear=True,
        neutral={"mix": 0.0},
        tail="the delay, longer with feedback",
        notes="The drift begins anew with every render, so every stem drifts alike.",
    ),
    EffectKind(
        "phaser",
        "notches that wander",
        "Phaser",
        (
            Parameter("rate_hz", "how fast they wander", "Hz", 0.01, 20, 1, "rate_hz"),
            _share("depth", "how far they wander", 0.5, "depth"),
            Parameter("centre_hz", "around which frequency", "Hz", 50, 10000, 1300, "centre_frequency_hz"),
            Parameter("feedback", "how sharp they are", "", -0.95, 0.95, 0, "feedback"),
            _share("mix", "share of the effect; the rest is dry", 0.5, "mix"),
        ),
        is_linear=True,
        neutral={"mix": 0.0},
        tail="a few periods of the frequency, more with feedback",
        notes="The drift begins anew with every render, so every stem drifts alike.",
    ),
    EffectKind(
        "delay",
        "echoes",
        "Delay",
        (
            Parameter("delay_ms", "between two echoes", "ms", 1, 5000, 500, "delay_seconds", 1 / 1000),
            Parameter("feedback", "how much goes round again", "", 0, 0.95, 0, "feedback"),
            _share("mix", "share of the echoes; the rest is dry", 0.5, "mix"),
        ),
        is_linear=True,
        neutral={"mix": 0.0},
        tail="the echoes",
    ),
    EffectKind(
        "reverb",
        "a room",
        "Reverb",
        (
            _share("mix", "level of the room", 0.33, "wet_level"),
            _share("dry", "level of the direct sound; 1 leaves it as it is", 1, "dry_level", 0.5),
            _share("room_size", "how large", 0.5, "room_size"),
            _share("damping", "how dull", 0.5, "damping"),
            _share("width", "how far apart left and right are", 1, "width"),
        ),
        is_linear=True,
        neutral={"mix": 0.0, "dry": 1.0},
        tail="about 2 s at room_size 0.5",
        notes="pedalboard doubles the direct sound at its own dry level of 1, and with three channels or more"
        " does nothing and does not say so; here dry 1 is unity, and a layout is given to it in pairs.",
    ),
    EffectKind(
        "convolution",
        "the sound of a recorded room or box",
        "Convolution",
        (
            File("impulse_response", "a WAV, AIFF or FLAC of up to 20 s, one channel or two"),
            _share("mix", "share of the effect; the rest is dry", 1, ""),
        ),
        is_linear=True,
        neutral={"mix": 0.0},
        tail="the impulse response",
        notes="The impulse response is brought to the energy of a single full-scale sample, however loud its"
        " file is; it is resampled to the stem's rate. pedalboard's result depends on its block size by"
        " -158 dB, so that is fixed here.",
    ),
    EffectKind(
        "bitcrush",
        "fewer bits",
        "Bitcrush",
        (Parameter("bit_depth", "how many are left beside the sign", "", 1, 24, 8, "bit_depth"),),
        is_linear=False,
        notes="For lo-fi, together with high_cut. What is quieter than half of the last bit becomes silence.",
        is_silencing=True,
    ),
    EffectKind(
        "resample",
        "the sound of a lower sample rate; the stem keeps its own",
        "Resample",
        (
            Parameter("rate_hz", "the lower rate", "Hz", 2000, 32000, 8000, "target_sample_rate"),
            Choice(
                "quality",
                "from full of aliases to clean",
                ("zero_order_hold", "linear", "windowed_sinc32"),
                "windowed_sinc32",
                "quality",
                "Quality",
            ),
        ),
        is_linear=True,
        tail="a few samples of the lower rate",
        notes="For lo-fi. What it leaves lies up to half a sample of the lower rate off.",
    ),
    EffectKind(
        "clip",
        "cuts off what is above a level",
        "Clipping",
        (Parameter("threshold_db", "where it cuts", "dBFS", -40, 0, -6, "threshold_db"),),
        is_linear=False,
    ),
    EffectKind(
        "distortion",
        "saturates (tanh)",
        "Distortion",
        (Parameter("drive_db", "how hard", "dB", 0, 60, 25, "drive_db"),),
        is_linear=False,
        notes="It changes the sound even at 0 dB, and raises the level nearly by its drive: follow it with a"
        " gain.",
    ),
    EffectKind(
        "invert",
        "turns the polarity over",
        "Invert",
        (),
        is_linear=True,
    ),
    EffectKind(
        "width",
        "what both channels share against what sets them apart",
        "",
        (
            Parameter("mid_gain_db", "level of what both share", "dB", -60, 24, 0),
            Parameter("side_gain_db", "level of what sets them apart", "dB", -60, 24, 0),
            Switch("mute_mid", "leave only what sets them apart", False),
        ),
        is_linear=True,
        neutral={"mid_gain_db": 0.0, "side_gain_db": 0.0, "mute_mid": False},
        notes="A channel without a partner (mono, centre, LFE) is all mid. With mute_mid, a stem whose"
        " channels are alike becomes silent.",
        is_silencing=True,
    ),
)

KINDS: Mapping[str, EffectKind] = {kind.name: kind for kind in _TABLE}
"""All effects by the name that a preset calls them."""

REFUSED: Mapping[str, str] = {
    "Limiter": "adds make-up gain that nobody asked for (a quiet channel x15) and lets peaks through (+3 dBTP"
    " at a threshold of -1 dB); use limiter, or master.ceiling_dbtp",
    "PitchShift": "moves transients by up to 500 samples, so the stem no longer lies on the others; use"
    " stembridge remix --pitch for a practice version",
    "GSMFullRateCompressor": "mixes a pair to mono, and its result depends on the block size; use resample"
    " with low_cut and bitcrush",
    "MP3Compressor": "takes 32, 44.1 and 48 kHz alone, so that a preset would fail on other sources; use"
    " resample or high_cut",
    "IIRFilter": "has no parameters of its own; use peak, low_shelf, high_shelf, low_cut or high_cut",
    "Mix": "mixes chains in parallel; use [[sends]], or a chain's wet",
    "Chain": "is what [[stems.X.effects]] already is",
    "Pedalboard": "is what [[stems.X.effects]] already is",
    "VST3Plugin": 'opens a plugin inside this process, which its crash would end; use kind = "plugin"',
    "AudioUnitPlugin": 'opens a plugin inside this process, which its crash would end; use kind = "plugin"',
}
"""What pedalboard has and a preset may not ask for, by its class: why, and what to use."""


def is_neutral(effect: Effect) -> bool:
    """Tell whether an effect is a bypass, sample for sample."""
    kind = KINDS[effect.kind]
    if kind.neutral is None:
        return False
    values = kind.settle(effect.values)
    return all(values[name] == value for name, value in kind.neutral.items())


def check_effect(effect: Effect) -> None:
    """Check an effect against the table.

    Raises
    ------
    PresetError
        Its kind or one of its parameters is unknown, a value is not allowed, or one lacks.
    """
    kind = KINDS.get(effect.kind)
    if kind is None:
        raise _refuse_kind(effect.kind)
    for name, value in effect.values.items():
        parameter = kind.parameter(name)
        if parameter is None:
            raise PresetError(
                f"{kind.name}.{name} is no parameter of {kind.name}", _name_parameters(kind, name)
            )
        if fault := parameter.find_fault(value):
            raise PresetError(
                f"{kind.name}.{name} = {spell_value(value)} {fault}",
                f"{parameter.what}: {parameter.allowed}",
            )
    for parameter in kind.parameters:
        if parameter.default is None and parameter.name not in effect.values:
            raise PresetError(f"{kind.name} lacks {parameter.name}", f"{parameter.what}: {parameter.allowed}")


def find_number_fault(value: object, low: float, high: float) -> str:
    """Return what is wrong with a value that is to be a number from ``low`` to ``high``; '' for nothing."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return "is text: leave out the quotes"
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return "is no number"
    return "" if low <= value <= high else "is out of range"


def chain_is_linear(chain: Chain) -> bool:
    """Tell whether a chain does to a sum what it does to the parts; of a plugin nobody knows."""
    return all(
        isinstance(effect, Effect) and (KINDS[effect.kind].is_linear or is_neutral(effect))
        for effect in chain.effects
    )


def drop_neutral(chain: Chain) -> Chain:
    """Return the chain without what changes nothing; `Chain()` where nothing is left of it."""
    effects = tuple(one for one in chain.effects if isinstance(one, PluginEffect) or not is_neutral(one))
    if not effects or chain.wet == 0:
        return Chain()
    return replace(chain, effects=effects)


def _refuse_kind(name: str) -> PresetError:
    folded = name.replace("_", "").lower()
    for class_name, why in REFUSED.items():
        if folded == class_name.lower():
            return PresetError(
                f"effect {name!r}: pedalboard's {class_name} {why.split('; ')[0]}", why.split("; ")[-1]
            )
    of_class = {kind.class_name.lower(): kind.name for kind in KINDS.values() if kind.class_name}
    close = [of_class[folded]] if folded in of_class else difflib.get_close_matches(name, KINDS, 1)
    known = f"there are {', '.join(KINDS)} and plugin"
    return PresetError(
        f"effect {name!r} is not known", f"did you mean {close[0]}? {known}" if close else known
    )


def _name_parameters(kind: EffectKind, name: str) -> str:
    known = [one.name for one in kind.parameters]
    if not known:
        return "it has none"
    close = difflib.get_close_matches(name, known, 1)
    listed = f"it has {', '.join(known)}"
    return f"did you mean {close[0]}? {listed}" if close else listed
