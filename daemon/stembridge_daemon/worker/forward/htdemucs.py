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
from stembridge_daemon.worker.forward.kernels import Dense
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
    dtype : of everything between the spectrogram and its way back
    device : where it computes

    Raises
    ------
    UnknownLayout
        The model has a part that this does not know.
    """

    def __init__(self, stock: HTDemucs, *, dtype: torch.dtype, device: torch.device) -> None:
        _check_plan(stock)
        options = {"dtype": dtype, "device": device}
        self._dtype = dtype
        self._stems = len(stock.sources), stock.audio_channels
        self._frames = int(stock.segment * stock.samplerate)
        self._spectrum = Spectrum(
            bins=stock.nfft // 2, hop=stock.hop_length, frames=self._frames, device=device
        )
        self._encoders = [
            (Encoder(one, **options), Encoder(other, **options))
            for one, other in zip(stock.encoder, stock.tencoder, strict=True)
        ]
        self._decoders = [
            (Decoder(one, **options), Decoder(other, **options))
            for one, other in zip(stock.decoder, stock.tdecoder, strict=True)
        ]
        self._frequencies: Tensor | None = None
        if stock.freq_emb is not None:
            frequencies = stock.freq_emb_scale * stock.freq_emb.weight
            self._frequencies = frequencies[:, None].to(device, dtype)
        self._transform = _Middle(stock, self._sizes(stock), **options) if stock.crosstransformer else None

    def __call__(self, batch: Tensor, sources: Sequence[int]) -> Tensor:
        frames = batch.shape[-1]
        batch = F.pad(batch, (0, self._frames - frames))
        spectrum = torch.view_as_real(self._spectrum.take(batch)).flatten(3)
        spectrum, mean, deviation = _normalise(spectrum)
        time, time_mean, time_deviation = _normalise(batch)
        rows = spectrum.to(self._dtype)
        line = time.mT[:, None].to(self._dtype)
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
        wanted = list(sources)
        pairs = rows.unflatten(3, (*self._stems, 2))[:, :, :, wanted].float()
        stems = torch.view_as_complex(pairs.contiguous()).flatten(3).permute(0, 3, 2, 1)
        of_spectrum = self._spectrum.restore_scaled(stems, deviation, mean).unflatten(1, (len(wanted), -1))
        of_time = line[:, 0].unflatten(2, self._stems)[:, :, wanted].permute(0, 2, 3, 1).float()
        whole = of_spectrum + of_time * time_deviation[..., None] + time_mean[..., None]
        return whole[..., :frames]

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

    def __init__(
        self, stock: HTDemucs, sizes: tuple[int, int, int], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        rows, columns, time = sizes
        options = {"dtype": dtype, "device": device}

        def dense(name: str) -> Any:
            if not stock.bottom_channels:
                return nn.Identity()
            convolution = getattr(stock, name)
            return Dense(convolution.weight[:, :, 0], convolution.bias, **options)

        self._up, self._up_time = dense("channel_upsampler"), dense("channel_upsampler_t")
        self._down, self._down_time = dense("channel_downsampler"), dense("channel_downsampler_t")
        self._transformer = CrossTransformer(
            stock.crosstransformer, rows=rows, columns=columns, time=time, **options
        )

    def __call__(self, rows: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
        spectrum, time = self._transformer(self._up(rows.flatten(1, 2)), self._up_time(line.flatten(1, 2)))
        return (
            self._down(spectrum).unflatten(1, rows.shape[1:3]),
            self._down_time(time).unflatten(1, line.shape[1:3]),
        )
