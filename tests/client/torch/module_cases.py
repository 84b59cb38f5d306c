"""Modules of many kinds, at sizes that a check takes in a second."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class ModuleCase(NamedTuple):
    """A module with its arguments."""

    make: Callable[[], nn.Module]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = MappingProxyType({})


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LeNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3),
        )  # fmt: skip


class ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(2, 4, 1, 2, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.downsample(x))


class WordBag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(7, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.words(tokens).mean(1))


class GptBlock(nn.Module):
    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(9, width), nn.Embedding(6, width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(approximate="tanh"), nn.Linear(16, width))
        self.register_buffer("mask", torch.ones(6, 6, dtype=torch.bool).tril())

    def forward(self, ids: Tensor) -> Tensor:
        batch, length = ids.shape
        x = self.tokens(ids) + self.positions(torch.arange(length))
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).chunk(3, -1)
        )
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(~self.mask[:length, :length], float("-inf"))
        attended = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, -1)
        x = x + self.c_proj(attended)
        x = x + self.mlp(self.ln_2(x))
        return x @ self.tokens.weight.t()


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(width).float())

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class LlamaBlock(nn.Module):
    """RMSNorm, rotary positions, grouped queries and SwiGLU."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, rows, bias=False) for rows in (width, self.size, self.size))
        self.o = nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 12, bias=False), nn.Linear(width, 12, bias=False)
        self.down = nn.Linear(12, width, bias=False)

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        frequencies = 1.0 / 10000 ** (torch.arange(0, self.size, 2).float() / self.size)
        angles = torch.outer(torch.arange(length).float(), frequencies)
        angles = torch.cat((angles, angles), -1).to(x.dtype)
        y = self.norm1(x)
        query = self.rotate(self.q(y).view(batch, length, self.heads, self.size).transpose(1, 2), angles)
        key = self.rotate(self.k(y).view(batch, length, 1, self.size).transpose(1, 2), angles)
        value = self.v(y).view(batch, length, 1, self.size).transpose(1, 2)
        key, value = (part.expand(batch, self.heads, length, self.size) for part in (key, value))
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, -1))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class SmallUnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(4, 3, 2, 2), nn.Conv2d(6, 1, 1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skip = functional.silu(self.down(x))
        low = functional.silu(self.norm(self.middle(functional.avg_pool2d(skip, 2))))
        coarse = functional.interpolate(low[:, :1], scale_factor=2, mode="bilinear", align_corners=False)
        return {"mask": self.head(torch.cat((self.up(low), skip), 1)), "coarse": coarse}


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ELU(), nn.Flatten(), nn.Linear(27, 4))
        self.decode = nn.Sequential(
            nn.Linear(4, 27), nn.Unflatten(1, (3, 3, 3)), nn.ConvTranspose2d(3, 1, 3, 2, 1, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.binary_cross_entropy(self.decode(self.encode(x)), x.sigmoid())


class SelectiveScan(nn.Module):
    """A small selective scan, its recurrence unrolled, behind a causal convolution."""

    def __init__(self, width: int = 4, states: int = 2) -> None:
        super().__init__()
        self.inner = nn.Linear(width, 2 * width)
        self.conv = nn.Conv1d(width, width, 2, padding=1, groups=width)
        self.select, self.delta = nn.Linear(width, 2 * states), nn.Linear(width, width)
        self.log_a, self.d = nn.Parameter(draw(width, states)), nn.Parameter(draw(width))

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.inner(x).chunk(2, -1)
        u = functional.silu(self.conv(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        b, c = self.select(u).chunk(2, -1)
        delta = functional.softplus(self.delta(u))
        decay = torch.exp(-delta[..., None] * self.log_a.exp())
        state = torch.zeros_like(decay[:, 0])
        outputs = []
        for step in range(x.shape[1]):
            state = decay[:, step] * state + (delta * u)[:, step, :, None] * b[:, step, None, :]
            outputs.append((state * c[:, step, None, :]).sum(-1))
        return (torch.stack(outputs, 1) + self.d * u) * functional.silu(gate)


class Mixture(nn.Module):
    """Dense experts, weighted by the two largest probabilities of a router."""

    def __init__(self, width: int = 4, experts: int = 3) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        dense = torch.zeros(*x.shape[:-1], len(self.experts), dtype=x.dtype).scatter(-1, chosen, weights)
        return sum(dense[..., number, None] * expert(x) for number, expert in enumerate(self.experts))


class GatheredMixture(Mixture):
    """The same, with the tokens of each expert gathered, and added at their places."""

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        result = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == number)
            result = result.index_add(0, token, expert(x[token]) * weights[token, slot, None])
        return result


class BufferCounter(nn.Module):
    """Changes a buffer in place, and normalises by one without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.weighted(self.linear(x)) * self.calls


def make_images(*shape: int) -> tuple[Tensor, ...]:
    return (draw(*shape),)


SEQUENCE, MEMORY = draw(4, 2, 8), draw(3, 2, 8, seed=1)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(4)
TOKENS = torch.tensor([[1, 4, 0], [2, 4, 4]])

CASES: dict[str, ModuleCase] = {
    "mlp": ModuleCase(lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), (draw(4, 3),)),
    "lenet": ModuleCase(LeNet, make_images(2, 1, 10, 10)),
    "residual_block": ModuleCase(ResidualBlock, make_images(3, 2, 5, 5)),
    "residual_block_eval": ModuleCase(lambda: ResidualBlock().eval(), make_images(2, 2, 5, 5)),
    "multihead_attention": ModuleCase(lambda: nn.MultiheadAttention(8, 2), (SEQUENCE, MEMORY, MEMORY)),
    "encoder_layer": ModuleCase(lambda: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0), (SEQUENCE,)),
    "encoder_layer_eval": ModuleCase(
        lambda: nn.TransformerEncoderLayer(8, 2, 12, activation="gelu").eval(), (SEQUENCE,)
    ),
    "decoder_layer": ModuleCase(
        lambda: nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, norm_first=True),
        (SEQUENCE, MEMORY),
        {"tgt_mask": CAUSAL},
    ),
    "lstm_cell": ModuleCase(lambda: nn.LSTMCell(3, 4), (draw(2, 3), (draw(2, 4), draw(2, 4, seed=1)))),
    "gru_cell": ModuleCase(lambda: nn.GRUCell(3, 4), (draw(2, 3), draw(2, 4))),
    "lstm": ModuleCase(lambda: nn.LSTM(3, 4, 2, batch_first=True), (draw(2, 3, 3),)),
    "gru": ModuleCase(lambda: nn.GRU(3, 4, bidirectional=True), (draw(3, 2, 3),)),
    "rnn": ModuleCase(lambda: nn.RNN(3, 4, nonlinearity="relu"), (draw(3, 2, 3),)),
    "word_bag": ModuleCase(WordBag, (TOKENS,)),
    "embedding_bag": ModuleCase(lambda: nn.EmbeddingBag(7, 4, mode="sum"), (TOKENS,)),
    "gpt_block": ModuleCase(GptBlock, (TOKENS,)),
    "llama_block": ModuleCase(LlamaBlock, (draw(2, 4, 8),)),
    "unet": ModuleCase(SmallUnet, make_images(2, 1, 6, 6)),
    "autoencoder": ModuleCase(Autoencoder, make_images(2, 1, 6, 6)),
    "selective_scan": ModuleCase(SelectiveScan, (draw(2, 4, 4),)),
    "mixture": ModuleCase(Mixture, (draw(5, 4),)),
    "gathered_mixture": ModuleCase(GatheredMixture, (draw(5, 4),)),
    "buffers": ModuleCase(BufferCounter, (draw(5, 4),)),
    "activations": ModuleCase(
        lambda: nn.Sequential(
            nn.Linear(3, 4), nn.Hardswish(), nn.PReLU(4), nn.Mish(), nn.Softsign(), nn.LogSigmoid(), nn.GLU(),
        ),
        (draw(4, 3),),
    ),
    "line_convolutions": ModuleCase(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular"),
            nn.InstanceNorm1d(4, affine=True, track_running_stats=True), nn.MaxPool1d(2),
            nn.ConvTranspose1d(4, 2, 3, 2), nn.AdaptiveAvgPool1d(3),
        ),
        (draw(2, 2, 8),),
    ),
    "image_parts": ModuleCase(
        lambda: nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(1, 8, 3), nn.PixelShuffle(2), nn.Upsample(scale_factor=2), nn.Softmax2d(),
            nn.AdaptiveAvgPool2d((3, 2)),
        ),
        (draw(1, 1, 4, 4),),
    ),
}  # fmt: skip
"""Modules by name."""
