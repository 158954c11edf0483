"""The Transformer of `poison_scaling.model.transformer` in PyTorch, as its users would write it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from poison_scaling.model.dimensions import Dimensions


class Block(nn.Module):
    def __init__(self, d: Dimensions):
        super().__init__()
        self.heads, self.head, self.mlp = d.heads, d.head, d.mlp
        self.attention_norm = nn.RMSNorm(d.width, eps=1e-6)
        self.query_key_value = nn.Linear(d.width, 3 * d.width, bias=False)
        self.out = nn.Linear(d.width, d.width, bias=False)
        self.mlp_norm = nn.RMSNorm(d.width, eps=1e-6)
        self.gate_up = nn.Linear(d.width, 2 * d.mlp, bias=False)
        self.down = nn.Linear(d.mlp, d.width, bias=False)

    def forward(self, x, sin, cos):
        B, L, D = x.shape
        qkv = self.query_key_value(self.attention_norm(x)).view(B, L, 3, self.heads, self.head)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # [B, H, L, K]
        q, k = rotate(q, sin, cos), rotate(k, sin, cos)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(out.transpose(1, 2).reshape(B, L, D))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, sin, cos):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Model(nn.Module):
    def __init__(self, d: Dimensions, vocab_size: int, seq_len: int = 128, end: int = 1):
        super().__init__()
        self.end = end
        self.embedding = nn.Embedding(vocab_size, d.width)
        self.blocks = nn.ModuleList(Block(d) for _ in range(d.layers))
        self.norm = nn.RMSNorm(d.width, eps=1e-6)
        self.output = nn.Linear(d.width, vocab_size, bias=False)
        if d.tied:
            self.output.weight = self.embedding.weight
        half = d.head // 2
        angles = torch.arange(seq_len)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        self.register_buffer("sin", angles.sin())
        self.register_buffer("cos", angles.cos())

    def loss(self, tokens):
        """Mean cross-entropy of tokens [B, L], each given those before it in its sequence."""
        x = self.embedding(F.pad(tokens[:, :-1], (1, 0), value=self.end))
        for block in self.blocks:
            x = block(x, self.sin, self.cos)
        return F.cross_entropy(self.output(self.norm(x)).flatten(0, 1), tokens.flatten())
