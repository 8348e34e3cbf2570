"""The GPT-2 backbone (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners").

Parameter names are those of the released checkpoints (`wte`, `h.0.attn.c_attn`, …); linear weights are
stored as `nn.Linear` does, that is, transposed against the released `Conv1D` ones.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_classifier.errors import OptionError, expect_bool, expect_number
from gpt_classifier.models.backbone import AdaptableLinear, Backbone, take
from gpt_classifier.models.packing import Packing

LARGEST, MOST_BLOCKS = 10**8, 1000
"""Sizes far beyond any model: more are a slip, and would take hours to be refused by memory."""


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT-2, under the names of the released `config.json`.

    Args:
        vocab_size: number of token ids, V.
        n_positions: longest sequence in tokens.
        n_embd: width of the residual stream, D; a multiple of `n_head`.
        n_layer: number of blocks.
        n_head: attention heads of each block.
        dropout: probability of dropping, after the embeddings, in attention and before each residual sum.
        causal: each token sees itself and earlier ones, as in pretraining; `False` lets it see the whole text.

    Raises:
        OptionError: `n_embd` is not a multiple of `n_head`, or a size is no whole number from 1 to `LARGEST`, or
            `MOST_BLOCKS` for the number of blocks.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    dropout: float = 0.0
    causal: bool = True

    def __post_init__(self) -> None:
        for size in ("vocab_size", "n_positions", "n_embd", "n_head"):
            expect_number(size, getattr(self, size), 1, LARGEST, whole=True)
        expect_number("n_layer", self.n_layer, 1, MOST_BLOCKS, whole=True)
        expect_number("dropout", self.dropout, 0, 1)
        expect_bool("causal", self.causal)
        if self.n_embd % self.n_head:
            raise OptionError("n_head", f"a divisor of n_embd, {self.n_embd}", self.n_head)


class Attention(nn.Module):
    """Multi-head self-attention, causal unless told what is visible."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(
        self, x: Tensor, positions: Tensor | None = None, visible: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        if positions is not None and type(self.c_attn) is nn.Linear:  # an adapter is not in the weight
            return self._at(x, positions, visible, packing)
        qkv = self.c_attn(x)  # (B, T, 3 D)
        y = self._mixed(qkv, visible) if packing is None else packing.mixed(self._mixed, qkv, visible)
        return self.c_proj(y if positions is None else take(y, positions))

    def _mixed(self, qkv: Tensor, visible: Tensor | None) -> Tensor:
        """What each token takes from those that it sees, `(B, T, D)`."""
        q, k, v = (self._heads(part) for part in qkv.chunk(3, dim=2))
        mask = None if visible is None else visible[:, None, None]  # (B, 1, 1, T)
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=self._drop, is_causal=mask is None)
        return y.transpose(1, 2).flatten(2)

    def _at(self, x: Tensor, positions: Tensor, visible: Tensor | None, packing: Packing | None) -> Tensor:
        """One query a row, `(B, 1, D)`, without keys and values.

        As `q · (W_k x) = (W_k^T q) · x` and `sum a (W_v x) = W_v (sum a x)`, each head's share of W_k and W_v is
        applied once a row instead of once a token. The key's bias adds the same to all scores, which softmax undoes.
        """
        D = x.shape[2]
        w_q, w_k, w_v = self.c_attn.weight.view(3, self.n_head, D // self.n_head, D).unbind()
        b_q, _, b_v = self.c_attn.bias.view(3, self.n_head, D // self.n_head, 1).unbind()
        # weights on the left: their gradients come out in their own layout
        q = w_q @ take(x, positions)[:, 0].t()  # (H, D/H, B)
        q = q + b_q.to(q.dtype)
        folded = (q.transpose(1, 2) @ w_k).transpose(0, 1)  # (B, H, D)
        if packing is None:
            mixed, total = self._read(x, folded, positions, visible)
        else:
            mixed, total = packing.read(self._read, x, folded, positions, visible)
        y = w_v @ mixed.permute(1, 2, 0)  # (H, D/H, B)
        y = y + b_v.to(y.dtype) * total.t()[:, None].to(y.dtype)
        return self.c_proj(y.flatten(0, 1).t())[:, None]

    def _read(self, x: Tensor, folded: Tensor, positions: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        """What queries `(B, H, D)` take from `x`, and the sum of what they give each token, `(B, H)`."""
        T, D = x.shape[1:]
        seen = torch.arange(T, device=x.device) <= positions[:, None] if visible is None else visible  # (B, T)
        with torch.autocast(x.device.type, enabled=False):  # next to no work, and a shape of its own for every T
            scores = folded.to(x.dtype) @ x.transpose(1, 2) * (D // self.n_head) ** -0.5  # (B, H, T)
            scores = scores.masked_fill(~seen[:, None], -torch.inf)
            weights = F.dropout(scores.softmax(dim=-1), self._drop)
            return weights @ x, weights.sum(dim=-1)

    @property
    def _drop(self) -> float:
        return self.dropout if self.training else 0.0

    def _heads(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        return x.view(B, T, self.n_head, D // self.n_head).transpose(1, 2)  # (B, H, T, D/H)


class MLP(nn.Module):
    """Two linear layers around GPT-2's tanh form of GELU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=1e-5)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, positions: Tensor | None = None, visible: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """One block further.

        Args:
            x: `(B, T, D)`, or `(1, N, D)` where rows are packed.
            positions: `(B,)`, the one position of each row to compute, as the packing has it; `None` for all.
            visible: `(B, T)` or `(1, T)` booleans, the tokens that every token sees; `None`: itself and earlier ones.
            packing: of the rows; `None` if they are not packed.

        Returns:
            As `x`, or `(B, 1, D)` at the positions.
        """
        residual = x if positions is None else take(x, positions)
        x = residual + self.drop(self.attn(self.ln_1(x), positions, visible, packing))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT(Backbone):
    """Embeddings, blocks and the final LayerNorm; the language-model head is the token embedding, transposed.

    `gpt_classifier.models.weights.load_backbone` makes one with released or with fresh weights.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.context, self.depth = config.n_embd, config.n_positions, config.n_layer
        self.vocab_size, self.causal, self.dropout = config.vocab_size, config.causal, config.dropout
        self._packs = False
        self.wte = _embedding(config.vocab_size, config.n_embd)
        self.wpe = _embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=1e-5)

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        return self.drop(self.wte(ids) + self.wpe(positions))

    def blocks(self, x: Tensor, lengths: Tensor, start: int, stop: int, positions: Tensor | None = None) -> Tensor:
        visible = None if self.causal else torch.arange(x.shape[1], device=x.device) < lengths[:, None]  # (B, T)
        positions = positions if stop == self.depth else None
        if start == stop or not self._packs:
            return self._through(x, start, stop, positions, visible)
        packing = Packing(lengths, x.shape[1])
        visible = None if visible is None else visible[packing.order]
        if positions is None:
            return packing.apart(self._through(packing.together(x), start, stop, None, visible, packing))
        positions = packing.positions(positions)
        return packing.as_before(self._through(packing.together(x), start, stop, positions, visible, packing))

    def _through(
        self,
        x: Tensor,
        start: int,
        stop: int,
        positions: Tensor | None,
        visible: Tensor | None,
        packing: Packing | None = None,
    ) -> Tensor:
        for i, block in enumerate(self.h[start:stop], start):
            x = block(x, positions if i == self.depth - 1 else None, visible, packing)
        return x

    def skip_padding(self) -> bool:
        self._packs = True
        return True

    def norm(self, x: Tensor) -> Tensor:
        return self.ln_f(x)

    def stage(self, i: int) -> Iterable[nn.Parameter]:
        if i == 0:
            return [*self.wte.parameters(), *self.wpe.parameters()]
        return self.ln_f.parameters() if i > self.depth else self.h[i - 1].parameters()

    def linears(self) -> Iterator[AdaptableLinear]:
        block: Any
        for block in self.h:
            yield AdaptableLinear(block.attn, "c_attn", ("query", "key", "value"))
            yield AdaptableLinear(block.attn, "c_proj", ("attention_output",))
            yield AdaptableLinear(block.mlp, "c_fc", ("mlp_input",))
            yield AdaptableLinear(block.mlp, "c_proj", ("mlp_output",))

    def state(self) -> dict[str, Any]:
        return {"family": "gpt2", **asdict(self.config)}

    def attention(self, ids: Tensor, lengths: Tensor) -> Tensor:
        T = ids.shape[1]
        positions = torch.arange(T, device=ids.device)
        allowed = (positions <= positions[:, None]) if self.causal else positions < lengths[:, None, None, None]
        layers = []
        x = self.embed(ids, lengths)
        block: Any
        for i, block in enumerate(self.h):
            q, k, _ = block.attn.c_attn(block.ln_1(x)).float().chunk(3, dim=2)
            q, k = (block.attn._heads(part) for part in (q, k))  # (B, H, T, D/H)
            with torch.autocast(x.device.type, enabled=False):
                scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5  # (B, H, T, T)
                layers.append(scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1))
            x = self.blocks(x, lengths, i, i + 1)
        return torch.stack(layers)

    def hidden(self, ids: Tensor) -> Tensor:
        """Hidden states after the final LayerNorm, of rows without padding or with any at their right.

        Args:
            ids: `(B, T)` integer token ids, `1 <= T <= n_positions`.

        Returns:
            `(B, T, D)`. With a causal mask a position depends on itself and earlier ones only, so never on padding.
        """
        return self(ids, torch.full((len(ids),), ids.shape[1], device=ids.device))

    def next_token_logits(self, hidden: Tensor) -> Tensor:
        """Logits `(…, V)` of the token that follows each hidden state `(…, D)`."""
        return F.linear(hidden, self.wte.weight)

    @torch.no_grad()
    def initialise(self) -> "GPT":
        """Draw fresh weights as GPT-2 did.

        Normal with standard deviation 0.02, scaled by 1/sqrt(2 · n_layer) where a block writes to the
        residual stream; biases 0, LayerNorm scales 1.

        Returns:
            The model itself.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                residual = (2 * self.config.n_layer) ** -0.5 if name.endswith("c_proj.weight") else 1.0
                parameter.normal_(0.0, 0.02 * residual)
        return self


def _embedding(number: int, width: int) -> nn.Embedding:
    """An embedding whose values `GPT.initialise` or a file gives.

    Left to draw them itself, under a meta device it would import torch's compiler, which takes seconds.
    """
    return nn.Embedding(number, width, _weight=torch.empty(number, width))
