"""Short songs by synthesis, whose stems are known: the demo's music and the measure of `preview`.

Everything that would let one fixed equaliser or one fixed panorama take a song apart is drawn per seed:
tempo, key, mode, chord progression, drum kit, patches, voice, pans, levels and room. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import RequestError

STEM_NAMES = ("drums", "bass", "other", "vocals")
"""The stems of every song, in the order in which the models name them."""

Signal = NDArray[np.float64]

_PEAK = 0.7
_CONTROL_HZ = 200.0
_TABLE_FRAMES = 8192

_MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
_PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 5, 4),
    (0, 6, 5, 4),
    (0, 2, 3, 4),
    (3, 0, 4, 5),
    (0, 3, 0, 4),
)

# Formants F1, F2, F3 in Hz of a man's vowels: Peterson and Barney, JASA 24 (1952), table II.
_VOWELS_HZ = np.array(
    [
        (730.0, 1090.0, 2440.0),
        (530.0, 1840.0, 2480.0),
        (270.0, 2290.0, 3010.0),
        (570.0, 840.0, 2410.0),
        (300.0, 870.0, 2240.0),
        (660.0, 1720.0, 2410.0),
        (640.0, 1190.0, 2390.0),
    ]
)
_FORMANT_WIDTHS_HZ = np.array((90.0, 120.0, 180.0, 300.0))
_FORMANT_GAINS = np.array((1.0, 0.55, 0.3, 0.14))

# Syllable lengths in beats; each row fills four beats, negative is a rest.
_PHRASES = (
    (1.0, 0.5, 0.5, 1.5, -0.5),
    (0.5, 0.5, 1.0, 1.0, -1.0),
    (-0.5, 0.5, 0.5, 0.5, 2.0),
    (1.5, 0.5, 1.0, 0.5, -0.5),
    (0.5, 0.5, 0.5, 0.5, 1.5, -0.5),
    (2.0, 1.0, -1.0),
    (-1.0, 0.75, 0.75, 0.5, 1.0),
)

# Sixteenths of one bar, one digit of velocity each.
_KICKS = ("9000000090000000", "9000000090600000", "9000050090000000", "9000900090009000", "9002000700900000")
_SNARES = ("0000900000009000", "0000900000009003", "0000900100109000", "0000000090000000")
_HATS = ("8040804080408040", "8353835383538353", "0080008000800080", "8080808080808080", "8045804580458045")
_BASSES = ("9000600090006000", "9060606090606060", "9000009000906000", "9000000060000060", "9006009060090060")
_ARPEGGIOS = (
    "8050605080506050",
    "8006005008006050",
    "8055605580556055",
    "8000600050006000",
    "0080006000800060",
)


@dataclass(frozen=True, slots=True)
class Song:
    """A song and what it is made of.

    ``stems`` maps `STEM_NAMES` in their order to (2, frames) float64 at ``sample_rate``.
    """

    sample_rate: int
    stems: dict[str, Signal]

    @property
    def frames(self) -> int:
        return int(self.stems[STEM_NAMES[0]].shape[1])

    @property
    def mixture(self) -> Signal:
        """The stems' sum, (2, frames); its peak stays below full scale."""
        return np.asarray(np.sum(list(self.stems.values()), axis=0))


@dataclass(frozen=True, slots=True)
class _Score:
    """What all players share; ``chords`` holds a scale degree per bar, ``root`` a MIDI pitch (C2..B2)."""

    sample_rate: int
    frames: int
    beat_s: float
    swing: float
    root: int
    scale: tuple[int, ...]
    chords: tuple[int, ...]

    def pitch(self, degree: int) -> int:
        """Return the MIDI pitch of a scale degree, 0 being the root; degrees go on over the octaves."""
        octave, step = divmod(degree, len(self.scale))
        return self.root + 12 * octave + self.scale[step]

    def seconds_at(self, bar: int, sixteenth: int) -> float:
        """Return when a sixteenth begins; ``swing`` delays every second one by that share of its length."""
        late = self.swing if sixteenth % 2 else 0.0
        return (bar * 4 + (sixteenth + late) / 4) * self.beat_s


def make_song(seed: int, *, seconds: float = 20.0, sample_rate: int = 44100) -> Song:
    """Return the song that ``seed`` stands for.

    Parameters
    ----------
    seed : at least 0; equal arguments give equal samples on one machine and numpy version
    seconds : length, above 0
    sample_rate : frames per second, at least 8000

    Raises
    ------
    RequestError : an argument outside its range
    """
    if seed < 0 or not 0 < seconds < 3600 or sample_rate < 8000:
        raise RequestError(
            f"no song for seed {seed}, {seconds} s at {sample_rate} Hz",
            "seed >= 0, 0 < seconds < 3600, sample_rate >= 8000",
        )
    # A generator per player: what one draws does not change what the others play.
    lead, drums, bass, other, vocals, desk = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)
    )
    score = _compose(lead, max(1, round(seconds * sample_rate)), sample_rate)
    tracks = (
        _play_drums(drums, score),
        _play_bass(bass, score),
        _play_other(other, score),
        _sing(vocals, score),
    )
    return Song(sample_rate, _balance(desk, score, tracks))


def _compose(rng: np.random.Generator, frames: int, sample_rate: int) -> _Score:
    beat_s = 60.0 / rng.uniform(84.0, 132.0)
    mode = str(rng.choice(list(_MODES)))
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    bars = int(np.ceil(frames / sample_rate / (4 * beat_s)))
    return _Score(
        sample_rate=sample_rate,
        frames=frames,
        beat_s=beat_s,
        swing=float(rng.choice((0.0, 0.0, 0.2, 0.33))),
        root=int(rng.integers(36, 48)),
        scale=_MODES[mode],
        chords=tuple(progression[bar % len(progression)] for bar in range(bars)),
    )


def _balance(
    rng: np.random.Generator, score: _Score, tracks: tuple[Signal, Signal, Signal, Signal]
) -> dict[str, Signal]:
    """Return the tracks with their room, at drawn levels, the mixture's peak at `_PEAK`."""
    levels_db = np.array((0.0, -1.0, -1.0, 0.5)) + rng.uniform(-2.5, 2.5, 4)
    decay_s = rng.uniform(0.25, 0.9)
    wet = np.array((0.10, 0.02, 0.22, 0.20)) * rng.uniform(0.5, 1.4)
    stems = {}
    for name, track, level_db, share in zip(STEM_NAMES, tracks, levels_db, wet, strict=True):
        roomy = _add_room(track, _room(rng, decay_s, score.sample_rate), share)
        level = float(np.sqrt(np.mean(roomy**2)))
        stems[name] = roomy * (10 ** (level_db / 20) / level if level > 0 else 0.0)
    fade = np.minimum(1.0, np.arange(score.frames)[::-1] / (0.25 * score.sample_rate))
    peak = float(np.max(np.abs(np.sum(list(stems.values()), axis=0) * fade)))
    gain = _PEAK / peak if peak > 0 else 0.0
    return {name: np.ascontiguousarray(stem * fade * gain) for name, stem in stems.items()}


# --- what all instruments are made of -------------------------------------------------------------------


def _hz(pitch: float | Signal) -> Signal:
    return np.asarray(440.0 * 2.0 ** ((np.asarray(pitch) - 69.0) / 12.0))


def _seconds(duration_s: float, sample_rate: int) -> Signal:
    return np.arange(max(1, int(duration_s * sample_rate))) / sample_rate


def _place(track: Signal, at_s: float, sound: Signal, sides: Signal, sample_rate: int) -> None:
    """Add a mono ``sound`` to the (2, frames) ``track`` under construction, each side at its gain."""
    start = round(at_s * sample_rate)
    part = sound[: max(0, track.shape[1] - start)]
    track[:, start : start + part.size] += sides[:, None] * part


def _pan(position: float) -> Signal:
    """Return the gains (left, right) of constant power for a position in -1..1."""
    angle = (position + 1.0) * np.pi / 4
    return np.asarray(np.sqrt(2.0) * np.array((np.cos(angle), np.sin(angle))))


def _noise(rng: np.random.Generator, frames: int, low_hz: float, high_hz: float, sample_rate: int) -> Signal:
    """Return noise of unit level between two frequencies, with slopes of two orders on each side."""
    hz = np.maximum(np.fft.rfftfreq(frames, 1 / sample_rate), 1.0)
    shape = 1.0 / np.sqrt((1.0 + (low_hz / hz) ** 4) * (1.0 + (hz / high_hz) ** 4))
    band = np.fft.irfft(np.fft.rfft(rng.standard_normal(frames)) * shape, frames)
    return np.asarray(band / max(float(np.sqrt(np.mean(band**2))), 1e-12))


def _envelope(t: Signal, attack_s: float, length_s: float, release_s: float) -> Signal:
    """Return a gain that rises in ``attack_s``, holds until ``length_s`` and falls in ``release_s``."""
    return np.clip(np.minimum(t / attack_s, (length_s + release_s - t) / release_s), 0.0, 1.0)


def _table(partials: Signal) -> Signal:
    """Return one period of a wave with the given amplitudes of its partials 1, 2, ..."""
    spectrum = np.zeros(_TABLE_FRAMES // 2 + 1, dtype=np.complex128)
    spectrum[1 : partials.size + 1] = -0.5j * _TABLE_FRAMES * partials
    return np.asarray(np.fft.irfft(spectrum))


def _oscillate(table: Signal, cycles: Signal) -> Signal:
    """Return the wave at the given phases, in cycles."""
    return np.asarray(table[(cycles * _TABLE_FRAMES).astype(np.int64) % _TABLE_FRAMES])


def _partials(slope: float, odd_only: float, cutoff_hz: float, pitch_hz: float) -> Signal:
    """Return amplitudes of partials: a power law, even ones damped, a two-pole low-pass."""
    order = np.arange(1, max(2, min(64, int(10000.0 / pitch_hz))) + 1)
    even = np.where(order % 2 == 0, 1.0 - odd_only, 1.0)
    return np.asarray(even * order**-slope / (1.0 + (order * pitch_hz / cutoff_hz) ** 2))


def _room(rng: np.random.Generator, decay_s: float, sample_rate: int) -> Signal:
    """Return the (2, frames) answer of a room that loses 60 dB in ``decay_s``, of unit energy per side."""
    t = _seconds(decay_s, sample_rate)
    tail = np.stack([_noise(rng, t.size, 250.0, 5000.0, sample_rate) for _ in range(2)])
    tail *= 10.0 ** (-3.0 * t / decay_s) * np.minimum(1.0, t / 0.012)
    return np.asarray(tail / np.sqrt(np.sum(tail**2, axis=1, keepdims=True)))


def _add_room(track: Signal, room: Signal, share: float) -> Signal:
    """Return ``track`` plus its mono sum convolved with ``room`` at the gain ``share``."""
    frames = track.shape[1]
    size = 1 << (frames + room.shape[1] - 1).bit_length()
    sent = np.fft.rfft(track.mean(axis=0), size)
    return np.asarray(track + share * np.fft.irfft(sent * np.fft.rfft(room, size), size)[:, :frames])


# --- drums ----------------------------------------------------------------------------------------------


def _kick(rng: np.random.Generator, sample_rate: int) -> Signal:
    base_hz, sweep_hz = rng.uniform(42.0, 62.0), rng.uniform(80.0, 260.0)
    fall_s, decay_s = rng.uniform(0.015, 0.04), rng.uniform(0.07, 0.16)
    t = _seconds(6 * decay_s, sample_rate)
    cycles = base_hz * t + sweep_hz * fall_s * (1.0 - np.exp(-t / fall_s))
    click = _noise(rng, t.size, 1500.0, 6000.0, sample_rate) * np.exp(-t / 0.004) * rng.uniform(0.1, 0.35)
    return np.asarray(np.sin(2 * np.pi * cycles) * np.exp(-t / decay_s) + click)


def _snare(rng: np.random.Generator, sample_rate: int) -> Signal:
    tone_hz, decay_s = rng.uniform(160.0, 260.0), rng.uniform(0.06, 0.14)
    t = _seconds(6 * decay_s, sample_rate)
    drop = 0.3 * 0.02 * (1.0 - np.exp(-t / 0.02))
    tone = np.sin(2 * np.pi * tone_hz * (t + drop)) + 0.5 * np.sin(2 * np.pi * 1.59 * tone_hz * (t + drop))
    wires = _noise(rng, t.size, rng.uniform(900.0, 2200.0), rng.uniform(6000.0, 11000.0), sample_rate)
    return np.asarray(0.45 * tone * np.exp(-t / 0.06) + 0.5 * wires * np.exp(-t / decay_s))


def _tom(rng: np.random.Generator, pitch_hz: float, sample_rate: int) -> Signal:
    t = _seconds(0.6, sample_rate)
    cycles = pitch_hz * (t + 0.4 * 0.05 * (1.0 - np.exp(-t / 0.05)))
    skin = _noise(rng, t.size, 300.0, 3000.0, sample_rate) * np.exp(-t / 0.015) * 0.2
    return np.asarray(np.sin(2 * np.pi * cycles) * np.exp(-t / 0.13) + skin)


def _cymbal(rng: np.random.Generator, low_hz: float, decay_s: float, sample_rate: int) -> Signal:
    """Return noise over six beating squares, the metal of hats and crashes."""
    t = _seconds(5 * decay_s, sample_rate)
    metal = sum(np.sign(np.sin(2 * np.pi * hz * t)) for hz in rng.uniform(low_hz * 0.4, low_hz * 1.4, 6))
    strike = _noise(rng, t.size, low_hz, 15000.0, sample_rate)
    hz = np.fft.rfftfreq(t.size, 1 / sample_rate)
    bright = np.fft.irfft(np.fft.rfft(metal) / (1.0 + (low_hz / np.maximum(hz, 1.0)) ** 4), t.size)
    return np.asarray((0.7 * strike + 0.12 * bright) * np.exp(-t / decay_s) * 0.3)


def _play_drums(rng: np.random.Generator, score: _Score) -> Signal:
    rate = score.sample_rate
    kick, snare = _kick(rng, rate), [_snare(rng, rate)] * 2
    metal_hz = rng.uniform(5500.0, 8500.0)
    hats = [_cymbal(rng, metal_hz, rng.uniform(0.02, 0.05), rate) for _ in range(3)]
    open_hat = _cymbal(rng, metal_hz, rng.uniform(0.12, 0.25), rate)
    crash = _cymbal(rng, rng.uniform(3000.0, 4500.0), rng.uniform(0.35, 0.7), rate)
    toms = [_tom(rng, hz, rate) for hz in rng.uniform(0.9, 1.15) * np.array((185.0, 140.0, 100.0))]
    kicks, snares, hat_line = (str(rng.choice(lines)) for lines in (_KICKS, _SNARES, _HATS))
    hat_level, hat_side = rng.uniform(0.5, 1.0), _pan(rng.uniform(-0.5, 0.5))
    track = np.zeros((2, score.frames))

    def hit(sound: Signal, bar: int, sixteenth: int, velocity: float, sides: Signal) -> None:
        at_s = score.seconds_at(bar, sixteenth) + abs(rng.normal(0.0, 0.002))
        _place(track, at_s, sound * velocity * rng.uniform(0.88, 1.0), sides, rate)

    for bar in range(len(score.chords)):
        has_fill = bar % 4 == 3
        if bar % 4 == 0:
            hit(crash, bar, 0, 0.8, _pan(-0.3))
        for step in range(16):
            in_fill = has_fill and step >= 12
            if (velocity := int(kicks[step])) and not in_fill:
                hit(kick, bar, step, velocity / 9, _pan(0.0))
            if (velocity := int(snares[step])) and not in_fill:
                hit(snare[step % 2], bar, step, velocity / 9, _pan(0.05))
            if (velocity := int(hat_line[step])) and not in_fill:
                is_open = step == 14 and bar % 2 == 1
                hit(open_hat if is_open else hats[step % 3], bar, step, hat_level * velocity / 9, hat_side)
            if in_fill:
                hit(toms[min(2, step - 12)], bar, step, 0.8, _pan(0.4 - 0.4 * (step - 12)))
    return track


# --- bass -----------------------------------------------------------------------------------------------


def _bass_note(score: _Score, pitch: int, length_s: float, patch: tuple[float, float, float]) -> Signal:
    """Return a note whose brightness falls; ``patch`` is (slope, odd_only, brightness in Hz)."""
    slope, odd_only, bright_hz = patch
    hz = float(_hz(pitch))
    t = _seconds(length_s + 0.04, score.sample_rate)
    bright = _oscillate(_table(_partials(slope, odd_only, bright_hz, hz)), hz * t)
    dark = _oscillate(_table(_partials(slope + 0.6, odd_only, 2.2 * hz, hz)), hz * t)
    blend = np.exp(-t / 0.09)
    body = (blend * bright + (1.0 - blend) * dark) * (0.35 + 0.65 * np.exp(-t / 0.5))
    return np.asarray(body * _envelope(t, 0.004, length_s, 0.03))


def _play_bass(rng: np.random.Generator, score: _Score) -> Signal:
    patch = (rng.uniform(0.8, 1.6), rng.uniform(0.0, 0.9), rng.uniform(350.0, 1600.0))
    line = str(rng.choice(_BASSES))
    steps = [step for step in range(16) if int(line[step])]
    sides = _pan(rng.uniform(-0.06, 0.06))
    drop = 12 if score.root > 42 else 0
    track = np.zeros((2, score.frames))
    for bar, chord in enumerate(score.chords):
        for step, after in zip(steps, [*steps[1:], 16], strict=True):
            leap = (
                0 if step == 0 else int(rng.choice((0, 0, 0, 4, 7, 2), p=(0.3, 0.2, 0.2, 0.12, 0.12, 0.06)))
            )
            pitch = score.pitch(chord + leap) - drop
            length_s = (after - step) * score.beat_s / 4 * rng.uniform(0.7, 0.97)
            at_s = score.seconds_at(bar, step) + abs(rng.normal(0.0, 0.003))
            sound = _bass_note(score, pitch - 12 if pitch > 50 else pitch, length_s, patch)
            _place(track, at_s, sound * int(line[step]) / 9, sides, score.sample_rate)
    return track


# --- other: pad, keys and plucks ------------------------------------------------------------------------


def _pad_chord(
    rng: np.random.Generator, score: _Score, pitches: list[int], patch: tuple[float, float]
) -> Signal:
    """Return a bar of detuned waves, (2, frames), each side with voices of its own."""
    slope, cutoff_hz = patch
    length_s = 4 * score.beat_s
    t = _seconds(length_s + 0.3, score.sample_rate)
    sides = np.zeros((2, t.size))
    for pitch in pitches:
        hz = float(_hz(pitch))
        table = _table(_partials(slope, 0.0, cutoff_hz, hz))
        for voice in range(4):
            detune = 2.0 ** (rng.uniform(-9.0, 9.0) / 1200)
            sides[voice % 2] += _oscillate(table, hz * detune * t + rng.uniform())
    return np.asarray(sides * _envelope(t, 0.12, length_s, 0.3) / 4)


def _pluck(score: _Score, pitch: int, length_s: float, brightness: float) -> Signal:
    """Return a string whose upper partials die first."""
    hz = float(_hz(pitch))
    t = _seconds(length_s + 0.25, score.sample_rate)
    order = np.arange(1, 15)
    comb = np.abs(np.sin(np.pi * order * 0.23)) / order**brightness
    early = _oscillate(_table(comb), hz * t)
    late = _oscillate(_table(comb / order**1.3), hz * t)
    blend = np.exp(-t / 0.07)
    return np.asarray(
        (blend * early + (1 - blend) * late) * np.exp(-t / 0.45) * _envelope(t, 0.002, length_s, 0.25)
    )


def _key(score: _Score, pitch: int, length_s: float, index: float) -> Signal:
    """Return an electric piano: two-operator FM, the modulator at the carrier's frequency (Chowning 1973)."""
    hz = float(_hz(pitch))
    t = _seconds(length_s + 0.2, score.sample_rate)
    turns = 2 * np.pi * hz * t
    strike = 0.25 * np.sin(2 * np.pi * min(14 * hz, 9000.0) * t) * np.exp(-t / 0.03)
    tone = np.sin(turns + index * np.exp(-t / 0.3) * np.sin(turns))
    return np.asarray((tone + strike) * np.exp(-t / 1.1) * _envelope(t, 0.003, length_s, 0.2))


def _play_other(rng: np.random.Generator, score: _Score) -> Signal:
    pad_patch = (rng.uniform(0.8, 1.4), rng.uniform(900.0, 4500.0))
    brightness, index = rng.uniform(0.6, 1.3), rng.uniform(0.8, 2.2)
    pad_level, arpeggio_level, key_level = rng.dirichlet((2.0, 2.0, 2.0)) * 1.5
    arpeggio, octave = str(rng.choice(_ARPEGGIOS)), int(rng.choice((12, 24)))
    rhythm = str(rng.choice(("9000000080000000", "9000006000700000", "0000900000009000", "9006009000600900")))
    arpeggio_side, key_side = _pan(rng.uniform(-0.9, 0.9)), _pan(rng.uniform(-0.7, 0.7))
    rate = score.sample_rate
    track = np.zeros((2, score.frames))
    for bar, chord in enumerate(score.chords):
        tones = [score.pitch(chord + third) + 12 for third in (0, 2, 4)]
        voicing = [tone + 12 if tone < 55 else tone for tone in tones]
        pad = _pad_chord(rng, score, voicing, pad_patch) * pad_level
        for side in range(2):
            _place(track, bar * 4 * score.beat_s, pad[side], np.eye(2)[side], rate)
        for step in range(16):
            at_s = score.seconds_at(bar, step) + abs(rng.normal(0.0, 0.004))
            if velocity := int(arpeggio[step]):
                tone = tones[int(rng.integers(3))] + octave
                sound = _pluck(score, tone, score.beat_s / 2, brightness) * velocity / 6 * arpeggio_level
                _place(track, at_s, sound, arpeggio_side, rate)
            if velocity := int(rhythm[step]):
                for tone in voicing:
                    sound = _key(score, tone, score.beat_s, index) * velocity / 18 * key_level
                    _place(track, at_s, sound, key_side, rate)
    return track


# --- the voice ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Syllable:
    """``start_s`` and ``length_s`` in seconds, a scale degree, a row of `_VOWELS_HZ`, how it begins."""

    start_s: float
    length_s: float
    degree: int
    vowel: int
    onset: str


def _write_melody(rng: np.random.Generator, score: _Score) -> list[_Syllable]:
    """Return a melody in which each four bars share two rhythms, near the tones of the chords."""
    rhythms = [_PHRASES[index] for index in rng.choice(len(_PHRASES), 2, replace=False)]
    onsets = ("none", "hiss", "pop", "hum")
    first = int(rng.integers(0, 2))
    degree, melody = int(rng.integers(0, 5)), []
    for bar in range(first, len(score.chords)):
        if bar % 8 == 7:
            continue
        beat = 0.0
        for length in rhythms[bar % 2]:
            if length > 0:
                degree = int(np.clip(degree + rng.choice((-2, -1, -1, 0, 1, 1, 2, 3)), -2, 8))
                if beat % 2 == 0:
                    near = [
                        score.chords[bar] % 7 + 7 * up + third for up in (-1, 0, 1) for third in (0, 2, 4)
                    ]
                    degree = min(near, key=lambda tone, at=degree: abs(tone - at))  # type: ignore[misc]
                start_s = (4 * bar + beat) * score.beat_s + rng.normal(0.0, 0.012)
                onset = str(rng.choice(onsets, p=(0.3, 0.25, 0.25, 0.2)))
                vowel = int(rng.integers(len(_VOWELS_HZ)))
                melody.append(
                    _Syllable(max(0.0, start_s), length * score.beat_s * 0.94, degree, vowel, onset)
                )
            beat += abs(length)
    return melody


def _smooth(contour: Signal, width_s: float) -> Signal:
    """Return a contour at `_CONTROL_HZ` smoothed by a Hann window, its ends held."""
    width = max(3, int(width_s * _CONTROL_HZ) | 1)
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(contour, width // 2, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"))


def _sing_line(
    rng: np.random.Generator, score: _Score, melody: list[_Syllable], transpose: int, throat: float
) -> Signal:
    """Return one voice, (frames,): a glottal source of falling partials through moving formants, and breath.

    Partials are summed one by one, so that formants and pitch may move freely: Klatt, "Software for a
    cascade/parallel formant synthesizer", JASA 67 (1980), in its parallel form. ``throat`` scales the
    formants (about 1 for a man, 1.17 for a woman).
    """
    rate = score.sample_rate
    t = np.arange(score.frames) / rate
    grid = np.arange(int(np.ceil(score.frames / rate * _CONTROL_HZ)) + 2) / _CONTROL_HZ
    pitch = np.full(grid.size, float(score.pitch(melody[0].degree) + transpose) if melody else 60.0)
    loud, sung_s = np.zeros(grid.size), np.zeros(grid.size)
    formants = np.tile(_VOWELS_HZ[0], (grid.size, 1))
    noise = np.zeros(score.frames)
    for syllable in melody:
        end_s = syllable.start_s + syllable.length_s
        held = (grid >= syllable.start_s) & (grid < end_s)
        late = grid >= syllable.start_s
        pitch[late] = score.pitch(syllable.degree) + transpose
        formants[late] = _VOWELS_HZ[syllable.vowel]
        loud[held] = rng.uniform(0.75, 1.0)
        sung_s[held] = grid[held] - syllable.start_s
        if syllable.onset in ("hiss", "pop"):
            loud[held & (grid < syllable.start_s + (0.06 if syllable.onset == "hiss" else 0.03))] = 0.0
            length_s, low_hz = (0.11, 4500.0) if syllable.onset == "hiss" else (0.03, 1800.0)
            burst_t = _seconds(length_s, rate)
            burst = _noise(rng, burst_t.size, low_hz, 9000.0, rate) * np.sin(np.pi * burst_t / length_s)
            start = round(max(0.0, syllable.start_s - 0.04) * rate)
            part = burst[: max(0, score.frames - start)]
            noise[start : start + part.size] += 0.07 * part
        elif syllable.onset == "hum":
            loud[held & (grid < syllable.start_s + 0.07)] *= 0.35
    vibrato_hz, depth = rng.uniform(4.8, 6.3), rng.uniform(0.2, 0.55)
    drift = _smooth(rng.standard_normal(grid.size), 0.3) * 0.25
    vibrato = depth * np.clip((sung_s - 0.15) / 0.3, 0.0, 1.0) * np.sin(2 * np.pi * vibrato_hz * grid)
    f0_hz = _hz(_smooth(pitch, 0.09) + vibrato + drift)
    loud = _smooth(loud, 0.05) * (1.0 - 0.12 * np.sin(2 * np.pi * vibrato_hz * grid + 1.0))
    tracks = np.stack([_smooth(column, 0.08) for column in formants.T], axis=1) * throat
    centres = np.column_stack([tracks, np.full(grid.size, 3500.0 * throat)])
    turn = np.exp(2j * np.pi * np.cumsum(np.interp(t, grid, f0_hz)) / rate)
    partial, voice = np.ones(t.size, dtype=np.complex128), np.zeros(t.size)
    for order in range(1, int(min(7500.0, 0.45 * rate) / np.median(f0_hz)) + 1):
        partial *= turn
        hz = order * f0_hz
        shape = _FORMANT_GAINS / (1.0 + ((hz[:, None] - centres) / _FORMANT_WIDTHS_HZ) ** 2)
        voice += np.interp(t, grid, (shape.sum(axis=1) + 0.03) * loud * order**-0.35) * partial.imag
    breath = _noise(rng, t.size, 1500.0, 7000.0, rate) * np.interp(t, grid, loud) * 0.012
    return voice + noise + breath


def _sing(rng: np.random.Generator, score: _Score) -> Signal:
    is_high = bool(rng.random() < 0.5)
    throat = (1.17 if is_high else 1.0) * rng.uniform(0.95, 1.06)
    transpose = 24 if is_high else 12
    if score.root + transpose > (66 if is_high else 55):
        transpose -= 12
    melody = _write_melody(rng, score)
    track = _pan(rng.uniform(-0.08, 0.08))[:, None] * _sing_line(rng, score, melody, transpose, throat)
    if rng.random() < 0.35:
        above = [
            _Syllable(s.start_s + 0.015, s.length_s, s.degree + 2, s.vowel, "none")
            for s in melody
            if s.length_s > 0.6 * score.beat_s
        ]
        sides = _pan(rng.choice((-0.6, 0.6))) * rng.uniform(0.2, 0.4)
        track = track + sides[:, None] * _sing_line(rng, score, above, transpose, throat)
    return track
