"""Attention over a grid, over remembered frames, and over tokens. All normalise queries and keys (RMS, without gain).

Positions are rotary (Su et al. 2021): a score depends on how far apart two cells or frames are, never on where, so that
frames may have other sizes, and dreams other lengths, than those trained on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn


def rotary(positions: Shaped[Tensor, "*lead"], size: int, base: float = 100.0) -> Float[Tensor, "*lead size"]:
    """Angles of ``size`` pairs of entries at positions, at frequencies that fall geometrically from 1 to 1/``base``.

    In float32, whatever the precision of the pass: positions of some thousands have no exact bfloat16.
    """
    frequency = base ** -torch.linspace(0, 1, size, device=positions.device)
    return positions.float()[..., None] * frequency


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """The first pairs (x_i, x_{i+half}) of entries turned by their angles; entries beyond them stay as they are."""
    half = angle.shape[-1]
    a, b, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)


def turned_product(
    q: Float[Tensor, "b t *cell e"], k: Float[Tensor, "b m *cell e"], behind: Float[Tensor, "b t m"]
) -> Float[Tensor, "b t m *cell"]:
    """Products of rotary queries and keys that lie ``behind`` them, as if each were turned to its position.

    Only the pairs' distances enter: R(i) q · R(j) k = Re(q k* e^(i (i - j) f)), each pair of entries read as a complex
    number. So a key may lie at any distance from each query, and needs no position of its own.
    """
    half = q.shape[-1] // 2
    angle = rotary(behind, half)
    angle = angle.reshape(*angle.shape[:3], *[1] * (q.ndim - 3), half)
    cos, sin = angle.cos().to(q.dtype), angle.sin().to(q.dtype)
    a, b = q[:, :, None].chunk(2, -1)
    c, d = k[:, None].chunk(2, -1)
    turned = torch.addcmul(c * cos, d, sin), torch.addcmul(d * cos, c, -sin)
    return torch.addcmul(a * turned[0], b, turned[1]).sum(-1)


def unit(x: Tensor) -> Tensor:
    """RMS norm of the last axis, without gain: bounds every score by the square root of the head's width."""
    return F.rms_norm(x, x.shape[-1:])


class Grid(nn.Module):
    """Every cell of a frame attends to every other cell of it; rotary positions along both axes."""

    def __init__(self, width: int, head: int = 32):
        super().__init__()
        self.heads, self.head = width // head, head
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Float[Tensor, "n h w d"]) -> Float[Tensor, "n h w d"]:
        """x: (N, h, w, D)."""
        n, h, w, d = x.shape
        q, k, v = self.qkv(x).reshape(n, h * w, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)  # (N, heads, hw, head)
        rows, columns = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
        quarter = self.head // 4  # half of a head's pairs turn with the row, half with the column
        angle = torch.cat(
            [rotary(rows, quarter)[:, None].expand(h, w, quarter), rotary(columns, quarter).expand(h, w, quarter)], -1
        ).flatten(0, 1)
        q, k = rotate(unit(q), angle), rotate(unit(k), angle)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out(out.transpose(1, 2).reshape(n, h, w, d))


class _Elsewhere(nn.Module):
    """Queries of a frame's cells, keys and values of something else ``outside`` numbers wide, and of nothing at all."""

    def __init__(self, width: int, outside: int, head: int = 32):
        super().__init__()
        self.heads, self.head = width // head, head
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(outside, 2 * width, bias=False)
        self.nothing = nn.Parameter(torch.randn(2, width) * 0.02)
        self.out = nn.Linear(width, width, bias=False)


class Memory(_Elsewhere):
    """Every cell attends to the same cell of remembered frames, and to nothing at all (a learned key and value).

    Keys and values are made of what each remembered frame shows, by :meth:`keys`, once: not of what later frames make
    of it. So a cache of them is exact, whatever was evicted from it.
    """

    def keys(self, remembered: Float[Tensor, "n cells e"]) -> Float[Tensor, "n 2 cells d"]:
        """Keys (normalised, at no position) and values of remembered frames (N, cells, E)."""
        k, v = self.kv(remembered).chunk(2, -1)
        k = unit(k.unflatten(-1, (self.heads, self.head))).flatten(-2)
        return torch.stack([k, v], 1)

    def forward(
        self,
        x: Float[Tensor, "n h w d"],
        memory: Float[Tensor, "b m 2 cells d"],
        behind: Float[Tensor, "b t m"],
        allowed: Bool[Tensor, "b t m"],
    ) -> Float[Tensor, "n h w d"]:
        """x: (B·T, h, w, D), T frames of each of B rows; memory: (B, M, 2, cells, D), what :meth:`keys` gave;
        behind: (B, T, M), how many frames each remembered one lies behind each of the T; allowed: which are seen."""
        n, h, w, d = x.shape
        b, t = behind.shape[:2]
        q = unit(self.q(x).reshape(b, t, h * w, self.heads, self.head))
        k, v = memory.to(x.dtype).unflatten(-1, (self.heads, self.head)).unbind(2)  # (B, M, cells, heads, head)
        turned = self.head // 4  # these entries tell when, the others what
        when = turned_product(q[..., :turned], k[..., :turned], behind)
        when = when.masked_fill(~allowed[..., None, None], -torch.inf)
        none_k, none_v = self.nothing.to(x.dtype).unflatten(-1, (self.heads, self.head)).unbind(0)
        what_q, what_k, what_none = q[..., turned:], k[..., turned:], unit(none_k)[..., turned:]
        if t == 1:  # as in dreams: so little is multiplied that nothing is worth being moved for it
            score = (what_q * what_k).sum(-1) + when[:, 0]
            score = torch.cat([(what_q * what_none).sum(-1), score], 1) / self.head**0.5  # (B, 1 + M, cells, heads)
            share = score.softmax(1)[..., None].to(v.dtype)
            out = torch.addcmul((share[:, 1:] * v).sum(1), share[:, 0], none_v)
            return self.out(out.reshape(n, h, w, d))
        when = F.pad(when.permute(0, 3, 4, 1, 2), (1, 0)) / self.head**0.5  # (B, cells, heads, T, 1 + M)
        what_q, what_k, v = (y.permute(0, 2, 3, 1, 4) for y in (what_q, what_k, v))  # (B, cells, heads, T or M, head)
        what_k = torch.cat([what_none[:, None].expand(b, h * w, -1, -1, -1), what_k], -2)
        v = torch.cat([none_v[:, None].expand(b, h * w, -1, -1, -1), v], -2)
        out = F.scaled_dot_product_attention(what_q, what_k, v, when.to(q.dtype), scale=self.head**-0.5)
        return self.out(out.permute(0, 3, 1, 2, 4).reshape(n, h, w, d))


class Cross(_Elsewhere):
    """Every cell attends to a sequence of tokens, and to nothing at all (a learned key and value)."""

    def forward(
        self, x: Float[Tensor, "n h w d"], tokens: Float[Tensor, "n l e"], real: Bool[Tensor, "n l"]
    ) -> Float[Tensor, "n h w d"]:
        """x: (N, h, w, D); tokens: (N, L, E); real: (N, L), which are not padding."""
        n, h, w, d = x.shape
        q = unit(self.q(x).reshape(n, h * w, self.heads, self.head)).transpose(1, 2)
        kv = torch.cat([self.nothing.flatten().to(tokens.dtype).expand(n, 1, -1), self.kv(tokens).to(tokens.dtype)], 1)
        k, v = kv.unflatten(-1, (2, self.heads, self.head)).permute(2, 0, 3, 1, 4).unbind(0)
        mask = F.pad(real, (1, 0), value=True)[:, None, None]
        out = F.scaled_dot_product_attention(q.to(v.dtype), unit(k).to(v.dtype), v, mask)
        return self.out(out.transpose(1, 2).reshape(n, h, w, d))
