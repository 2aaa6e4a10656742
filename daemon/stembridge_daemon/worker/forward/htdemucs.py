"""HTDemucs with the weights and the maths of stock (demucs 4.1.0), laid out for the machine.

Channels-last from the spectrogram to the stems, no moving to and fro; what follows a matrix product is
computed with it; positions, windows and scales are laid out once. A model built in a way that is not known
here is refused with `UnknownLayout`, and stock computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.kernels import Dense, Numbers
from stembridge_daemon.worker.forward.layers import Decoder, Encoder
from stembridge_daemon.worker.forward.spectrum import Spectrum
from stembridge_daemon.worker.forward.transformer import CrossTransformer

_STEADY = 1e-5
"""``HTDemucs.forward`` divides by the deviation and this."""


class FastHTDemucs:
    """A `Forward` for one HTDemucs.

    Parameters
    ----------
    stock : the loaded model
    numbers : of everything between the spectrogram and its way back, which are in float32

    Raises
    ------
    UnknownLayout
        The model has a part that this does not know.
    """

    def __init__(self, stock: HTDemucs, numbers: Numbers) -> None:
        _check_plan(stock)
        self._sources = len(stock.sources)
        self._frames = int(stock.segment * stock.samplerate)
        self._spectrum = Spectrum(
            bins=stock.nfft // 2, hop=stock.hop_length, frames=self._frames, device=numbers.device
        )
        # Where the network begins and ends, a number counts for the whole signal; the time branch is narrow
        # there, and 16 bits would save next to nothing.
        ends = numbers.full()
        self._encoders = [
            (Encoder(one, numbers, None if index else ends), Encoder(other, numbers if index else ends))
            for index, (one, other) in enumerate(zip(stock.encoder, stock.tencoder, strict=True))
        ]
        self._decoders = [
            (Decoder(one, numbers, ends if one.last else None), Decoder(other, ends if one.last else numbers))
            for one, other in zip(stock.decoder, stock.tdecoder, strict=True)
        ]
        self._frequencies: Tensor | None = None
        if stock.freq_emb is not None:
            frequencies = stock.freq_emb_scale * stock.freq_emb.weight
            self._frequencies = numbers.hold(frequencies[:, None])
        self._transform = _Middle(stock, self._sizes(stock), numbers) if stock.crosstransformer else None

    def __call__(self, batch: Tensor, sources: Sequence[int]) -> Tensor:
        frames = batch.shape[-1]
        batch = F.pad(batch, (0, self._frames - frames))
        spectrum = torch.view_as_real(self._spectrum.take(batch)).flatten(3)
        spectrum, mean, deviation = _normalise(spectrum)
        time, time_mean, time_deviation = _normalise(batch)
        rows, line = spectrum, time.mT[:, None].contiguous()
        skips: list[Tensor] = []
        skips_of_time: list[Tensor] = []
        lengths = []
        length = self._frames
        for index, (encode, encode_time) in enumerate(self._encoders):
            lengths.append(length)
            line, rows = encode_time(line), encode(rows)
            if index == 0 and self._frequencies is not None:
                rows = rows + self._frequencies
            length = line.shape[2]
            if index + 1 < len(self._encoders):
                # Here once, for the next encoder and for the decoder that gives as many frames.
                line = F.pad(line, (0, 0, 0, -length % self._encoders[index + 1][1].stride))
            skips_of_time.append(line)
            skips.append(rows)
        if self._transform is not None:
            rows, line = self._transform(rows, line)
        rows, line = rows + skips.pop(), line + skips_of_time.pop()
        for decode, decode_time in self._decoders:
            rows = decode(rows, skips.pop() if skips else None)
            line = decode_time(line, skips_of_time.pop() if skips_of_time else None)
            line = line[:, :, : lengths.pop()]
        rows, line = self._choose(rows, sources), self._choose(line, sources)
        stems = torch.view_as_complex(rows.unflatten(3, (-1, 2)))
        of_spectrum = self._spectrum.restore(stems, deviation, mean)
        of_time = torch.addcmul(time_mean, line[:, 0].mT, time_deviation)
        whole: Tensor = (of_spectrum + of_time)[..., :frames].unflatten(1, (len(sources), -1))
        return whole

    def _choose(self, x: Tensor, sources: Sequence[int]) -> Tensor:
        """Return what the wanted sources have of the last axis."""
        if list(sources) == list(range(self._sources)):
            return x
        chosen: Tensor = x.unflatten(3, (self._sources, -1))[:, :, :, list(sources)].flatten(3)
        return chosen

    def _sizes(self, stock: HTDemucs) -> tuple[int, int, int]:
        """Return rows and columns of the spectrogram, and tokens of the time branch, in the middle."""
        rows, time = self._spectrum.bins, self._frames
        for encoder, encoder_of_time in zip(stock.encoder, stock.tencoder, strict=True):
            rows //= encoder.stride
            time = -(-time // encoder_of_time.stride)
        return rows, self._spectrum.columns, time


def _check_plan(stock: HTDemucs) -> None:
    """Raise `UnknownLayout` where the model's parts are not put together as here."""
    if not stock.cac or not stock.use_train_segment:
        raise UnknownLayout(f"cac {stock.cac}, use_train_segment {stock.use_train_segment}")
    if stock.hop_length * 4 != stock.nfft or stock.hop_length % 2:
        raise UnknownLayout(f"{stock.nfft} points, {stock.hop_length} frames apart")
    frames = int(stock.segment * stock.samplerate)
    if frames <= stock.hop_length * 5 // 2:  # as many are mirrored at an end, at most
        raise UnknownLayout(f"segments of {frames} frames")
    if not len(stock.encoder) == len(stock.tencoder) == len(stock.decoder) == len(stock.tdecoder):
        raise UnknownLayout("branches of different depth")


def _normalise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x - mean over (deviation + 1e-5), and mean and deviation of each of the batch, (batch, 1, 1)."""
    flat = x.flatten(1)
    deviation, mean = torch.std_mean(flat, dim=1)
    by = [-1] + [1] * (x.ndim - 1)
    normal = (x - mean.view(by)) / (deviation.view(by) + _STEADY)
    return normal, mean.view(-1, 1, 1), deviation.view(-1, 1, 1)


class _Middle:
    """What stands between encoders and decoders: 1 x 1 convolutions around the transformer."""

    def __init__(self, stock: HTDemucs, sizes: tuple[int, int, int], numbers: Numbers) -> None:
        rows, columns, time = sizes

        def dense(name: str) -> Any:
            if not stock.bottom_channels:
                return nn.Identity()
            convolution = getattr(stock, name)
            return Dense(convolution.weight[:, :, 0], convolution.bias, numbers)

        self._up, self._up_time = dense("channel_upsampler"), dense("channel_upsampler_t")
        self._down, self._down_time = dense("channel_downsampler"), dense("channel_downsampler_t")
        self._transformer = CrossTransformer(
            stock.crosstransformer, numbers, rows=rows, columns=columns, time=time
        )

    def __call__(self, rows: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
        spectrum, time = self._transformer(self._up(rows.flatten(1, 2)), self._up_time(line.flatten(1, 2)))
        return (
            self._down(spectrum).unflatten(1, rows.shape[1:3]),
            self._down_time(time).unflatten(1, line.shape[1:3]),
        )
