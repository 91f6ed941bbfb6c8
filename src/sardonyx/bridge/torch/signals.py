"""Fourier transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sardonyx.bridge.torch.registry import implementation
from sardonyx.bridge.torch.sizes import integer, numbers
from sardonyx.bridge.torch.tensors import wide


def _complex(x: Tensor) -> Tensor:
    values = wide(x)
    if values.shape[-1] == 1:
        return values.squeeze(-1)
    return torch.view_as_complex(values.contiguous())


@implementation("DFT", host=("dft_length", "axis"))
def dft(
    x: Tensor,
    dft_length: Any = None,
    axis: Any = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    given = -2 if axis is None else int(integer(axis))
    place = given if given >= 0 else given + x.dim()
    length = None if dft_length is None else int(integer(dft_length))
    values = _complex(x)
    if inverse and onesided:
        found = torch.fft.irfft(values, length, place).unsqueeze(-1)
        return found.to(x.dtype)
    if inverse:
        found = torch.fft.ifft(values, length, place)
    elif onesided:
        found = torch.fft.rfft(values.real if values.is_complex() else values, length, place)
    else:
        found = torch.fft.fft(values, length, place)
    return torch.view_as_real(found).to(x.dtype)


@implementation("STFT", host=("frame_step", "frame_length"))
def stft(
    signal: Tensor,
    frame_step: Any,
    window: Tensor | None = None,
    frame_length: Any = None,
    *,
    onesided: int = 1,
) -> Tensor:
    step = int(integer(frame_step))
    length = signal.shape[1] if window is None else window.shape[0]
    if frame_length is not None:
        length = int(integer(frame_length))
    frames = _complex(signal).unfold(1, length, step)
    if window is not None:
        frames = frames * wide(window)
    if onesided:
        found = torch.fft.rfft(frames.real if frames.is_complex() else frames, dim=2)
    else:
        found = torch.fft.fft(frames, dim=2)
    return torch.view_as_real(found).to(signal.dtype)


@implementation(
    "MelWeightMatrix",
    host=("bins", "dft_length", "sample_rate", "low", "high"),
    ignored=("output_datatype",),
)
def mel_weight_matrix(
    bins: Any,
    dft_length: Any,
    sample_rate: Any,
    low: Any,
    high: Any,
    *,
    dtype: Any = torch.float32,
    device: Any = None,
) -> Tensor:
    count, length, rate = (int(integer(value)) for value in (bins, dft_length, sample_rate))
    edges = torch.tensor([numbers(low)[0], numbers(high)[0]], dtype=torch.float64, device=device)
    first, last = (2595 * torch.log10(1 + edges / 700)).unbind()
    steps = torch.arange(count + 2, dtype=torch.float64, device=device)
    mel = first + steps * ((last - first) / (count + 2))
    places = torch.floor((length + 1) * 700 * (10 ** (mel / 2595) - 1) / rate)
    left, centre, right = places[:-2], places[1:-1], places[2:]
    row = torch.arange(length // 2 + 1, dtype=torch.float64, device=device)[:, None]
    one = torch.ones_like(centre)
    rising = torch.where(centre > left, (row - left) / (centre - left), one)
    falling = (right - row) / (right - centre)
    found = torch.where((left <= row) & (row <= centre), rising, torch.zeros_like(rising))
    found = torch.where((centre <= row) & (row < right), falling, found)
    return found.float().to(dtype)
