"""The models the benchmarks run on, in plain torch, so that they need nothing but torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder; the defaults are small enough for a laptop."""

    layers: int = 12
    hidden: int = 256
    heads: int = 8
    kv_heads: int = 2
    intermediate: int = 688
    vocabulary: int = 1024
    rope_base: float = 500_000.0


LLAMA_70B = DecoderConfig(
    layers=80, hidden=8192, heads=64, kv_heads=8, intermediate=28672, vocabulary=128256
)  # 70.6 billion parameters


class RMSNorm(nn.Module):
    """RMS norm written by hand, as most model code does."""

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last dim."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def rotary(x: Tensor, base: float) -> Tensor:
    """Rotate the pairs (x[i], x[i + d/2]) of ``x [batch, heads, time, d]`` by an angle that grows with time."""
    time, d = x.shape[-2:]
    frequency = base ** (-torch.arange(0, d, 2, device=x.device) / d)
    angle = torch.outer(torch.arange(time, device=x.device), frequency)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Attention(nn.Module):
    """Grouped-query attention with one RMS norm per head on queries and keys."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.hidden // config.heads
        self.q_proj = nn.Linear(config.hidden, config.heads * self.head_size, bias=False)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * self.head_size, bias=False)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * self.head_size, bias=False)
        self.o_proj = nn.Linear(config.heads * self.head_size, config.hidden, bias=False)
        self.q_norm = RMSNorm(self.head_size)
        self.k_norm = RMSNorm(self.head_size)

    def forward(self, x: Tensor) -> Tensor:
        """``x [batch, time, hidden]`` → the same shape."""
        batch, time, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(batch, time, -1, self.head_size)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(batch, time, -1, self.head_size)).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, -1, self.head_size).transpose(1, 2)
        q, k = rotary(q, self.config.rope_base), rotary(k, self.config.rope_base)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, time, -1))


class Layer(nn.Module):
    """Pre-norm attention, then a pre-norm SwiGLU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_norm = RMSNorm(config.hidden)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.hidden)
        self.gate_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.intermediate, bias=False)
        self.down_proj = nn.Linear(config.intermediate, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x [batch, time, hidden]`` → the same shape."""
        x = x + self.attention(self.input_norm(x))
        y = self.mlp_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


class Decoder(nn.Module):
    """A Llama-like language model with the query-key norm of Qwen3.

    Args:
        config: its sizes.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden)
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids ``[batch, time]`` → logits ``[batch, time, vocabulary]``."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions, each with a batch norm, around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``x [batch, inputs, h, w]`` → ``[batch, 4 * width, h / stride, w / stride]``."""
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Sequential:
    """Return a network of the sizes of ResNet-50 (25.6 million parameters)."""
    modules: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    modules.append(nn.MaxPool2d(3, 2, 1))
    inputs = 64
    for stage, (width, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)):
        for block in range(depth):
            modules.append(Bottleneck(inputs, width, stride=2 if stage > 0 and block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))
