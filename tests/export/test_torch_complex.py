"""Complex numbers and Fourier transforms of PyTorch: pairs of real numbers in ONNX."""

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch.export import Dim  # noqa: E402

import sardonyx as sx  # noqa: E402
from export.agreement import agrees, operators  # noqa: E402

ROWS = {0: Dim.DYNAMIC}


def rand(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype)


def pairs(*shape, seed=0):
    return rand(*shape, dtype=torch.complex64, seed=seed)


class Rotary(torch.nn.Module):
    def __init__(self):
        super().__init__()
        angles = torch.outer(torch.arange(16.0), 0.5 ** torch.arange(4.0))
        self.register_buffer("freqs_cis", torch.polar(torch.ones(16, 4), angles))

    def forward(self, query, key):
        freqs = self.freqs_cis[: query.shape[1]].view(1, query.shape[1], 1, 4)

        def rotated(x):
            pair = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
            return torch.view_as_real(pair * freqs).flatten(3).type_as(x)

        return rotated(query), rotated(key)


def test_rotary_embeddings_are_a_handful_of_nodes():
    args = rand(2, 5, 3, 8), rand(2, 5, 2, 8)
    both = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    longer = (rand(1, 7, 3, 8), rand(1, 7, 2, 8))
    agrees(Rotary(), args, [longer], dynamic=(both, both))
    model = agrees(Rotary(), args)
    assert operators(model).count("Mul") <= 5
    assert len(model.graph.nodes) <= 17


def arithmetic(z, v):
    return (
        z * v, z * 2, 3.5 * z, z * (1 + 2j), z / (2 - 1j), z / v, 1 / z, z + v, z - v, z + 1, 1 - z,
        z + 2j, -z, z.reciprocal(), z * z.real, z.imag * v[0], z == v, z != v,
    )  # fmt: skip


def functions(z, v):
    return (
        z.exp(), z.log(), z.sqrt(), z**2, z**3, z**0.5, z**v, 2**z, z**1.5, z.sin(), z.cos(),
        z.tan(), z.sinh(), z.cosh(), z.tanh(), z.rsqrt(), z.sigmoid(), z.square(), z.sgn(),
        z.log2(), z.log10(), z.abs(), z.angle(), z.conj() + 0,
    )  # fmt: skip


def inverses(z, v):
    return z.asin(), z.acos(), z.atan(), z.asinh(), z.acosh(), z.atanh(), z.log1p(), z.expm1()


def reductions(z, v):
    return (
        z.sum(), z.mean(), z.sum(1), z.mean((0, 1)), z.prod(1), z.cumsum(0), z.abs().max(),
        torch.vdot(z[:, 0], v[:, 0]), torch.dot(z[0], v[0]), z.norm(), z.isnan(), z.isfinite(),
        z.any(), z.all(1),
    )  # fmt: skip


def movement(z, v):
    return (
        z.reshape(2, -1), z.T, z[1:], z[:, -1], z[..., None], torch.cat([z, v]), z.roll(1, 0),
        torch.stack([z, v], -1), torch.where(z.real > 0, z, v), torch.where(z.real > 0, z, 0.5),
        z[[0, 2]], z.flip(0), z.expand(2, 4, 3), z.unbind(1)[0], z.split(2)[1], z.tril(),
        torch.zeros_like(z), torch.full((2,), 1 + 2j), z.masked_fill(z.real > 0, 0),
        z.to(torch.complex128), z.real.to(torch.complex64), torch.nn.functional.pad(z, (1, 1)),
        z.gather(1, torch.zeros(4, 1, dtype=torch.long)), torch.eye(3, dtype=torch.complex64),
        z.bool(), torch.polar(z.real.abs(), z.imag), torch.complex(z.real, v.imag),
        torch.view_as_real(z), torch.view_as_complex(torch.view_as_real(z)[:, :2]),
    )  # fmt: skip


def products(z, v):
    return (
        z @ v.T, torch.einsum("ij,kj->ik", z, v), torch.nn.functional.linear(z, v), z @ v.mH,
        torch.addmm(z[:, :1], z, v.T), torch.outer(z[0], v[0]), z @ v[0],
        torch.linalg.vector_norm(z, dim=1), torch.addcmul(z, z, v, value=2),
    )  # fmt: skip


@pytest.mark.parametrize(
    "function", [arithmetic, functions, inverses, reductions, movement, products]
)
def test_complex(function):
    agrees(function, (pairs(4, 3), pairs(4, 3, seed=1)))


def test_complex_of_dynamic_size():
    def both(z, v):
        joined = torch.complex(z.real, v.imag[0])
        return (*arithmetic(z, v), z.reshape(-1), torch.cat([z, v]), z.abs(), joined)

    args = pairs(4, 3), pairs(4, 3, seed=1)
    agrees(both, args, [(pairs(6, 3), pairs(6, 3, seed=1))], dynamic=(ROWS, ROWS))


def test_complex_inputs_and_outputs_are_pairs_that_the_file_tells_of():
    model = sx.export(lambda z: z * 2j, (pairs(4, 3),), output_names=["turned"])
    assert [value.shape for value in model.graph.inputs] == [(4, 3, 2)]
    assert [value.shape for value in model.graph.outputs] == [(4, 3, 2)]
    assert model.metadata["sardonyx.complex"] == "z, turned"


def real_transforms(x):
    fft = torch.fft
    return (
        fft.fft(x), fft.rfft(x, n=8, dim=0, norm="ortho"), fft.irfft(fft.rfft(x), n=6),
        fft.irfft(fft.rfft(x), n=5), fft.irfft(fft.rfft(x), n=9), fft.fft2(x, norm="forward"),
        fft.irfft2(fft.rfft2(x)), fft.ifftn(x), fft.hfft(x), fft.ihfft(x), fft.fftshift(x),
        fft.fftfreq(8), fft.rfftfreq(8), fft.fft(x[0]), fft.irfft(fft.rfft(x[0]), norm="forward"),
        fft.ifftshift(x),
    )  # fmt: skip


def complex_transforms(z):
    fft = torch.fft
    return (
        fft.fft(z), fft.ifft(z, dim=0, norm="ortho"), fft.irfft(z), fft.hfft2(z),
        fft.fftn(z, s=(3, 8)),
    )  # fmt: skip


def test_transforms():
    agrees(real_transforms, (rand(4, 6),))
    agrees(real_transforms, (rand(4, 6),), opset=17)
    agrees(complex_transforms, (pairs(4, 6),))
    # a power of two: onnxruntime rounds 1/n of an inverse transform to float32
    agrees(lambda x: torch.fft.irfft(torch.fft.fft(x)), (rand(4, 5, dtype=torch.float64),))


def test_transforms_of_dynamic_size():
    def there_and_back(x):
        back = torch.fft.irfft(torch.fft.rfft(x), n=x.shape[1])
        return torch.fft.rfft(x, norm="ortho"), torch.fft.ifft(torch.fft.fft(x)), back

    both = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    agrees(there_and_back, (rand(4, 6),), [(rand(3, 9),), (rand(3, 10),)], dynamic=(both,))


WINDOW = torch.hann_window(16)


def spectra(x):
    return (
        torch.stft(x, 16, 4, window=WINDOW, return_complex=True),
        torch.stft(x, 16, window=WINDOW[:12], win_length=12, center=False, normalized=True,
                   return_complex=True).abs() ** 2,
        torch.stft(x, 16, 4, window=torch.hann_window(16), pad_mode="constant",
                   return_complex=True).abs(),
    )  # fmt: skip


def restored(x):
    made = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
    return torch.istft(made, 16, 4, window=WINDOW), torch.istft(
        made, 16, 4, window=torch.hann_window(16), length=60
    )


def test_an_inverse_reads_half_of_a_two_sided_spectrum():
    agrees(lambda z: torch.istft(z, 10), (pairs(10, 2),))


@pytest.mark.parametrize("opset", [20, 13])
def test_short_time_transforms(opset):
    agrees(spectra, (rand(2, 64),), opset=opset)
    agrees(restored, (rand(2, 64),), opset=opset)


def test_a_log_mel_spectrogram_as_whisper_makes_it():
    filters = rand(5, 9).abs()

    def features(x):
        made = torch.stft(x, 16, 4, window=WINDOW, return_complex=True)
        mel = filters @ made[..., :-1].abs() ** 2
        logarithms = torch.clamp(mel, min=1e-10).log10()
        return (torch.maximum(logarithms, logarithms.max() - 8.0) + 4.0) / 4.0

    both = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    agrees(features, (rand(2, 64),), [(rand(3, 100),)], dynamic=(both,))
