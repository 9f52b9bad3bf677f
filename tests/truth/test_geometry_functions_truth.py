"""Curvature and geodesics of decoders made of every function and layer of torch, against differences of their values.

The verbs are called as a user calls them, on modules with parameters that want gradients. The truth needs values of the
decoder only: first and second differences of order 8, and the Gauss equation.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from brenier import geometry

D = torch.float64
torch.manual_seed(0)
POINTS = torch.randn(7, 4, dtype=D)
IMAGE = torch.randn(1, 2, 5, 5, dtype=D)
PLACES = torch.linspace(-0.9, 0.8, 12, dtype=D).view(1, 3, 2, 2)
INDEX = torch.tensor([0, 1])
ATTENTION = nn.MultiheadAttention(4, 2, batch_first=True, dtype=D).eval()


def sequence(h):
    return h.view(-1, 2, 4)


def picture(h):
    return h.view(-1, 2, 2, 2)


def positive(h):
    return h.square() + 0.5


def matrix(h):
    a = h[:, :4].reshape(-1, 2, 2)
    return a @ a.mT + torch.eye(2, dtype=D)


def right(h):
    return h[:, 4:6, None]


def beside(f):
    """A number for each row, which scales the row."""
    return lambda h: f(h).reshape(len(h), 1) * h


def chained(*steps):
    def run(h):
        for step in steps:
            h = step(h)
        return h

    return run


def weighted(by):
    return nn.Sequential(by(nn.Linear(8, 8, dtype=D)), nn.Tanh())


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


def between(shape, *steps):
    return nn.Sequential(nn.Unflatten(1, shape), *steps, nn.Flatten())


def encoder(**options):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dtype=D, activation="gelu", **options)
    return chained(sequence, layer.eval())


def attended(**options):
    return lambda h: ATTENTION(sequence(h), sequence(h), sequence(h), **options)[0]


def masked(h):
    mask = torch.tensor([[True, False], [True, True]])
    return F.scaled_dot_product_attention(*[sequence(h)] * 3, attn_mask=mask)


def recurrent(kind):
    cell = kind(4, 3, batch_first=True, dtype=D).eval()
    return lambda h: cell(sequence(h))[0]


def sampled(**options):
    return lambda h: F.grid_sample(
        picture(positive(h)), PLACES.expand(len(h), -1, -1, -1), align_corners=False, **options
    )


def moved(mode):
    return lambda h: F.grid_sample(
        IMAGE.expand(len(h), -1, -1, -1), (h / 3).tanh().view(-1, 2, 2, 2), mode=mode, align_corners=False
    )


def enlarged(mode):
    return lambda h: F.interpolate(picture(positive(h)), scale_factor=2, mode=mode)


ELEMENTWISE = """tanh sigmoid exp sin cos atan asinh sinh cosh square erf erfc expm1 sinc i0 special.ndtr
    special.log_ndtr nn.functional.silu nn.functional.mish nn.functional.gelu nn.functional.celu nn.functional.softplus
    nn.functional.logsigmoid nn.functional.softsign nn.functional.tanhshrink"""
POSITIVE = "log log1p log2 log10 sqrt rsqrt reciprocal digamma lgamma exp2 acosh special.entr special.erfcx"
SPECTRAL = {
    "inv": torch.linalg.inv,
    "pinv": torch.linalg.pinv,
    "cholesky": torch.linalg.cholesky,
    "cholesky_inverse": lambda a: torch.cholesky_inverse(torch.linalg.cholesky(a)),
    "matrix_exp": lambda a: torch.linalg.matrix_exp(a / 5),
    "matrix_power": lambda a: torch.linalg.matrix_power(a, 3),
    "eigvalsh": torch.linalg.eigvalsh,
    "eigh": lambda a: torch.linalg.eigh(a)[1].square(),
    "svdvals": torch.linalg.svdvals,
    "qr": lambda a: torch.linalg.qr(a)[1],
    "bmm": lambda a: torch.bmm(a, a),
    "baddbmm": lambda a: torch.baddbmm(a, a, a),
    "tril": torch.tril,
    "lu": lambda a: torch.linalg.lu_factor(a)[0],
}
NUMBERS = {
    "det": torch.linalg.det,
    "torch_det": torch.det,
    "method_det": lambda a: a.det(),
    "slogdet": lambda a: torch.linalg.slogdet(a)[1],
    "method_slogdet": lambda a: a.slogdet().logabsdet,
    "logdet": torch.logdet,
    "method_logdet": lambda a: a.logdet(),
    "trace": lambda a: a.diagonal(dim1=1, dim2=2).sum(1),
    "matrix_norm": torch.linalg.matrix_norm,
    "nuclear_norm": lambda a: torch.linalg.matrix_norm(a, "nuc"),
}
SOLVERS = {
    "solve": torch.linalg.solve,
    "solve_ex": lambda a, b: torch.linalg.solve_ex(a, b)[0],
    "solve_from_the_right": lambda a, b: torch.linalg.solve(a, b.mT, left=False),
    "solve_vector": lambda a, b: torch.linalg.solve(a, b[..., 0]),
    "cholesky_solve": lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(a)),
    "solve_triangular": lambda a, b: torch.linalg.solve_triangular(torch.linalg.cholesky(a), b, upper=False),
    "lu_solve": lambda a, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b),
    "lstsq": lambda a, b: torch.linalg.lstsq(a, b)[0],
}
LAYERS = {
    "layer_norm": nn.LayerNorm(8, dtype=D),
    "layer_norm_plain": nn.LayerNorm(8, elementwise_affine=False, dtype=D),
    "layer_norm_two_sides": chained(sequence, nn.LayerNorm((2, 4), dtype=D)),
    "layer_norm_function": lambda h: F.layer_norm(sequence(h), (4,)),
    "torch_layer_norm": lambda h: torch.layer_norm(h, (8,)),
    "rms_norm": nn.RMSNorm(8, dtype=D),
    "group_norm": nn.GroupNorm(2, 8, dtype=D),
    "group_norm_images": chained(picture, nn.GroupNorm(1, 2, dtype=D)),
    "instance_norm": chained(sequence, nn.InstanceNorm1d(2, dtype=D)),
    "instance_norm_affine": chained(picture, nn.InstanceNorm2d(2, affine=True, dtype=D)),
    "batch_norm": nn.Sequential(nn.BatchNorm1d(8, dtype=D), nn.Tanh()).eval(),
    "local_response_norm": lambda h: F.local_response_norm(h.view(-1, 4, 2), 2),
    "normalize": lambda h: F.normalize(h, dim=1),
    "softmax": nn.Softmax(1),
    "log_softmax": nn.LogSoftmax(1),
    "softmin": nn.Softmin(1),
    "glu": nn.GLU(),
    "glu_rows": chained(sequence, nn.GLU(1)),
    "gelu_tanh": nn.GELU("tanh"),
    "conv1d": between((2, 4), nn.Conv1d(2, 3, 3, padding=1, dtype=D), nn.SiLU()),
    "conv2d": between((2, 2, 2), nn.Conv2d(2, 3, 2, dtype=D), nn.Mish()),
    "conv_transpose2d": between((2, 2, 2), nn.ConvTranspose2d(2, 3, 2, dtype=D), nn.SiLU()),
    "conv3d": between((1, 2, 2, 2), nn.Conv3d(1, 3, 2, dtype=D), nn.Tanh()),
    "conv_and_norm": between((2, 2, 2), nn.Conv2d(2, 4, 1, dtype=D), nn.GroupNorm(2, 4, dtype=D), nn.SiLU()),
    "attention": attended(),
    "attention_without_weights": attended(need_weights=False),
    "attention_masked": attended(need_weights=False, attn_mask=torch.tensor([[False, True], [False, False]])),
    "transformer": encoder(dropout=0.0),
    "transformer_norm_first": encoder(norm_first=True),
    "gru": recurrent(nn.GRU),
    "lstm": recurrent(nn.LSTM),
    "rnn": recurrent(nn.RNN),
    "old_weight_norm": weighted(old_weight_norm),
    "weight_norm": weighted(nn.utils.parametrizations.weight_norm),
    "spectral_norm": weighted(lambda layer: nn.utils.parametrizations.spectral_norm(layer).eval()),
    "orthogonal": weighted(nn.utils.parametrizations.orthogonal),
    "bilinear": lambda h, own=nn.Bilinear(4, 4, 3, dtype=D): own(h[:, :4], h[:, 4:]),
    "cosine_similarity": lambda h: F.cosine_similarity(h[:, None, :4], POINTS[None], dim=2),
}
FUNCTIONS = {
    "pow": lambda h: positive(h) ** 1.3,
    "float_power": lambda h: torch.float_power(positive(h), 0.7),
    "xlogy": lambda h: torch.xlogy(positive(h), positive(h)),
    "hypot": lambda h: torch.hypot(h, h.roll(1, 1)),
    "atan2": lambda h: torch.atan2(h, h.roll(1, 1)),
    "logaddexp": lambda h: torch.logaddexp(h, h.roll(1, 1)),
    "logcumsumexp": lambda h: torch.logcumsumexp(h, 1),
    "polygamma": lambda h: torch.polygamma(1, positive(h)),
    "lerp": lambda h: torch.lerp(h, h.roll(1, 1), h.sigmoid()),
    "addcmul": lambda h: torch.addcmul(h, h, h.roll(1, 1)),
    "addcdiv": lambda h: torch.addcdiv(h, h, positive(h)),
    "logsumexp": beside(lambda h: torch.logsumexp(h, 1)),
    "norm": beside(lambda h: h.norm(dim=1)),
    "vector_norm": beside(lambda h: torch.linalg.vector_norm(h, 4, dim=1)),
    "var": beside(lambda h: h.var(1)),
    "std": beside(lambda h: h.std(1)),
    "prod": beside(lambda h: h.prod(1)),
    "cumsum": lambda h: h.square().cumsum(1),
    "cumprod": lambda h: h.cumprod(1),
    "trapezoid": beside(lambda h: torch.trapezoid(h.square(), dim=1)),
    "einsum": lambda h: torch.einsum("mi,mj->mij", h, h),
    "cross": lambda h: torch.linalg.cross(h[:, :3], h[:, 3:6]),
    "vecdot": beside(lambda h: torch.linalg.vecdot(h, h.roll(1, 1))),
    "where": lambda h: torch.where(h > 0, h.square(), h.square() * h),
    "gather": lambda h: positive(h)[:, [3, 1]],
    "index_add": lambda h: torch.zeros_like(h).index_add(1, INDEX, h[:, :2].square()),
    "index_put": lambda h: torch.zeros_like(h).index_copy(1, INDEX, h[:, :2].exp()),
    "scatter": lambda h: torch.zeros_like(h).scatter(1, INDEX.expand(len(h), 2), h[:, :2].square()),
    "sort": lambda h: h.square().sort(1)[0],
    "topk": lambda h: h.square().topk(4, 1)[0],
    "masked_fill": lambda h: h.square().masked_fill(torch.arange(8) > 5, 0.0),
    "avg_pool": lambda h: F.avg_pool1d(sequence(h.square()), 2),
    "adaptive_avg_pool1d": lambda h: F.adaptive_avg_pool1d(sequence(h.square()), 2),
    "adaptive_avg_pool2d": lambda h: F.adaptive_avg_pool2d(picture(h.square()), 1),
    "lp_pool": lambda h: F.lp_pool1d(sequence(h), 2, 2),
    "interpolate_nearest": enlarged("nearest"),
    "interpolate_bilinear": enlarged("bilinear"),
    "interpolate_bicubic": enlarged("bicubic"),
    "interpolate_area": enlarged("area"),
    "pixel_shuffle": lambda h: F.pixel_shuffle(h.square().view(-1, 4, 2, 1), 2),
    "pixel_unshuffle": lambda h: F.pixel_unshuffle(h.square().view(-1, 1, 2, 4), 2),
    "channel_shuffle": lambda h: F.channel_shuffle(h.square().view(-1, 4, 2, 1), 2),
    "fold": lambda h: F.fold(h.square().view(-1, 4, 2), (2, 3), (2, 2)),
    "unfold": lambda h: F.unfold(h.square().view(-1, 1, 2, 4), 2),
    "pad_reflect": lambda h: F.pad(h.square(), (2, 2), mode="reflect"),
    "pad_circular": lambda h: F.pad(sequence(h.square()), (2, 2), mode="circular"),
    "pad_replicate": lambda h: F.pad(sequence(h.square()), (2, 2), mode="replicate"),
    "rfft": lambda h: torch.fft.rfft(h.square())[:, 1:4].abs(),
    "fft": lambda h: torch.view_as_real(torch.fft.fft(h.square())),
    "irfft": lambda h: torch.fft.irfft(torch.fft.rfft(h).square()),
    "fft2": lambda h: torch.fft.fft2(sequence(h)).angle(),
    "complex": lambda h: torch.exp(1j * h).real,
    "polar": lambda h: torch.polar(positive(h), h).imag,
    "stft": lambda h: torch.stft(h, 4, window=torch.hann_window(4, dtype=D), return_complex=True)[:, 1].abs(),
    "sdpa": lambda h: F.scaled_dot_product_attention(*[sequence(h)] * 3),
    "sdpa_heads": lambda h: F.scaled_dot_product_attention(*[h.view(-1, 1, 2, 4)] * 3, scale=0.3),
    "sdpa_causal": lambda h: F.scaled_dot_product_attention(*[h.view(-1, 1, 2, 4)] * 3, is_causal=True),
    "sdpa_masked": masked,
    "cdist": lambda h: torch.cdist(sequence(h), POINTS),
    "cdist_fourth": lambda h: torch.cdist(sequence(h), POINTS, p=4.0),
    "pairwise_distance": beside(lambda h: F.pairwise_distance(h[:, :4], POINTS[:1].expand(len(h), 4))),
    "grid_sample": sampled(),
    "grid_sample_border": sampled(padding_mode="border"),
    "grid_sample_bicubic": sampled(mode="bicubic"),
    "grid_sample_moved": moved("bicubic"),
    "affine_grid": lambda h: F.affine_grid(h[:, :6].view(-1, 2, 3), (len(h), 1, 2, 2), align_corners=False).sin(),
    "huber": lambda h: F.huber_loss(h, 0 * h, reduction="none"),
    "smooth_l1": lambda h: F.smooth_l1_loss(h, 0 * h, reduction="none"),
    "bce": lambda h: F.binary_cross_entropy_with_logits(h, h.sigmoid(), reduction="none"),
    "poisson": lambda h: F.poisson_nll_loss(h, h.square(), reduction="none"),
    "kl_div": lambda h: F.kl_div(h.log_softmax(1), h.roll(1, 1).softmax(1), reduction="none"),
}


def named(name):
    found = torch
    for part in name.split("."):
        found = getattr(found, part)
    return found


def under(f, inner):
    return lambda h: f(inner(h))


CASES = {name: named(name) for name in ELEMENTWISE.split()}
CASES |= {name: under(named(name), lambda h: positive(h) + 1) for name in POSITIVE.split()}
CASES |= {name: under(f, matrix) for name, f in SPECTRAL.items()}
CASES |= {name: beside(under(f, matrix)) for name, f in NUMBERS.items()}
CASES |= {name: (lambda h, f=f: f(matrix(h), right(h))) for name, f in SOLVERS.items()}
CASES |= LAYERS | FUNCTIONS


class Decoder(nn.Module):
    """A linear layer and a function of it, beside a graph, so that the Jacobian always has full rank."""

    def __init__(self, function):
        super().__init__()
        self.first = nn.Linear(2, 8, dtype=D)
        self.function = function

    def forward(self, z):
        return torch.cat([self.function(self.first(z)).flatten(1), z / 2], 1)


STENCIL = torch.tensor([4 / 5, -1 / 5, 4 / 105, -1 / 280], dtype=D)
H = 0.001


def first(f, z, e):
    """The derivative of order 8 along e."""
    steps = range(1, 5)
    return sum(c * (f(z + k * H * e) - f(z - k * H * e)) for c, k in zip(STENCIL, steps, strict=True)) / H


def by_differences(f, z):
    """∂_i f and ∂_i ∂_j f of z (m, 2) by values of f alone."""
    eye = torch.eye(2, dtype=D)
    with torch.no_grad():
        slope = torch.stack([first(f, z, e) for e in eye], 1)
        bend = torch.stack([torch.stack([first(lambda y, a=a: first(f, y, a), z, b) for a in eye], 1) for b in eye], 1)
    return slope, bend


def truth(f, z):
    """Christoffel symbols and scalar curvature by the Gauss equation."""
    slope, bend = by_differences(f, z)
    g = slope @ slope.mT
    gamma = torch.einsum("mkl,mlx,mijx->mkij", torch.linalg.inv(g), slope, bend)
    normal = bend - torch.einsum("mkij,mkx->mijx", gamma, slope)
    gauss = (normal[:, 0, 0] * normal[:, 1, 1]).sum(1) - normal[:, 0, 1].square().sum(1)
    return gamma, 2 * gauss / torch.linalg.det(g)


def decoded(case):
    torch.manual_seed(1)
    return Decoder(CASES[case]), torch.randn(3, 2, dtype=D, generator=torch.Generator().manual_seed(4)) / 2


@pytest.mark.parametrize("case", CASES)
def test_a_decoder_of_every_function(case):
    decoder, z = decoded(case)
    metric = geometry.pullback(decoder)
    gamma, scalar = truth(decoder, z)
    torch.testing.assert_close(geometry.christoffel(metric, z), gamma, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(geometry.scalar_curvature(metric, z), scalar, rtol=1e-6, atol=1e-7)


TRAVELLED = """nn.functional.silu nn.functional.mish layer_norm instance_norm glu attention_without_weights
    old_weight_norm cdist grid_sample solve logdet eigh cholesky_inverse"""


@pytest.mark.parametrize("case", TRAVELLED.split())
def test_every_verb_of_a_decoder(case):
    """`log` takes third derivatives of the decoder, `exp` and transport second ones: they must fit together."""
    decoder, z = decoded(case)
    metric, x, y = geometry.pullback(decoder), z[:1], z[:1] + 0.02
    found = geometry.geodesic(metric, x, y, n=5, tol=1e-4)
    torch.testing.assert_close(geometry.exp(metric, x, found.velocity), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(geometry.distance(metric, y, x, tol=1e-4), found.length)
    carried = geometry.parallel_transport(metric, found.path, found.velocity)[:, -1]
    torch.testing.assert_close(carried, -geometry.log(metric, y, x, tol=1e-4), rtol=1e-5, atol=1e-6)
