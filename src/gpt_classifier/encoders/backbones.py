"""The encoders of transformers as backbones: its modules, one after the other, with masks and positions of our own.

Each class keeps the names of the parameters of its model in transformers, behind `model.`.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertModel, DebertaV2Model, DistilBertModel, ModernBertModel, RobertaModel
from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding

from gpt_classifier.encoders.config import ARCHITECTURES, EncoderConfig, complete
from gpt_classifier.errors import OptionError, first_line
from gpt_classifier.models.backbone import AdaptableLinear, Backbone, take

FAMILY = "encoder"  # the name of all these architectures in `gpt_classifier.families.FAMILIES`


class Encoder(Backbone):
    """What all of them share. Dropout acts in trained stages, and in what comes after the first of them.

    Args:
        config: with settings.

    Raises:
        OptionError: of `settings`: transformers refuses them.
    """

    drops_frozen = False
    causal = False
    implementation = "sdpa"  # of attention

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        settings = complete(config)
        settings._attn_implementation = self.implementation
        assert config.architecture is not None
        self.width, self.depth = settings.hidden_size, settings.num_hidden_layers
        self.context = settings.max_position_embeddings - self.offset_of(settings)
        self.vocab_size = settings.vocab_size
        self.dropout = max(getattr(settings, name) for name in ARCHITECTURES[config.architecture].dropouts)
        self._state = config.state()
        self.model: Any = self.make(settings)
        for name in ("position_ids", "token_type_ids"):  # tables that no file has: they would stay on a meta device
            if hasattr(self.model.embeddings, name):
                delattr(self.model.embeddings, name)

    @abstractmethod
    def make(self, settings: Any) -> nn.Module:
        """The model of transformers, without a head."""

    @abstractmethod
    def modules_of(self, i: int) -> list[nn.Module]:
        """The modules of stage `i`."""

    @abstractmethod
    def shared(self, x: Tensor, lengths: Tensor) -> Any:
        """What all blocks need beside hidden states `(B, T, D)`: masks, tables of positions."""

    @abstractmethod
    def attend(self, i: int, x: Tensor, shared: Any) -> tuple[Tensor, Tensor | None]:
        """The self-attention of block `i`, without what follows it.

        Returns:
            `(B, T, D)`, and the weights `(B, heads, T, T)` where attention is computed step by step.
        """

    @abstractmethod
    def finish(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of block `i`, which goes on position by position: twice `(B, T, D)` to `(B, T, D)`."""

    def offset_of(self, settings: Any) -> int:
        """Embeddings of positions that belong to no token."""
        return 0

    def blocks(self, x: Tensor, lengths: Tensor, start: int, stop: int, positions: Tensor | None = None) -> Tensor:
        shared = self.shared(x, lengths)
        for i in range(start, stop):
            x = self.block(i, x, shared, positions if i == self.depth - 1 else None)
        return x

    def block(self, i: int, x: Tensor, shared: Any, positions: Tensor | None = None) -> Tensor:
        """One block, at all positions or after attention at one of each row only."""
        attended, _ = self.attend(i, x, shared)
        if positions is not None:
            x, attended = take(x, positions), take(attended, positions)
        return self.finish(i, x, attended)

    def norm(self, x: Tensor) -> Tensor:
        return x

    def stage(self, i: int) -> Iterable[nn.Parameter]:
        return [parameter for module in self.modules_of(i) for parameter in module.parameters()]

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for i in range(self.depth + 2):
            if any(parameter.requires_grad for parameter in self.stage(i)):
                break
            for module in self.modules_of(i):
                module.eval()
        return self

    def state(self) -> dict[str, Any]:
        return {"family": FAMILY, **self._state}

    def frozen_state(self) -> dict[str, Any]:
        dropouts = ARCHITECTURES[self._state["architecture"]].dropouts
        settings = {name: value for name, value in self._state["settings"].items() if name not in dropouts}
        return {**self.state(), "settings": settings}

    def attention(self, ids: Tensor, lengths: Tensor) -> Tensor:
        config = self.model.config
        config._attn_implementation = "eager"  # which computes the weights, and not only what comes of them
        try:
            x = self.embed(ids, lengths)
            shared = self.shared(x, lengths)
            layers = []
            for i in range(self.depth):
                _, weights = self.attend(i, x, shared)
                assert weights is not None
                layers.append(weights.float())
                x = self.block(i, x, shared)
        finally:
            config._attn_implementation = self.implementation
        return torch.stack(layers)

    def mask(self, visible: Tensor) -> Tensor:
        """Which keys each query sees, as attention wants it: booleans, or numbers to add to scores.

        Args:
            visible: `(B, 1, 1 or T, T)` booleans; every query sees something.
        """
        if self.model.config._attn_implementation == "sdpa":
            return visible
        return torch.zeros(visible.shape, device=visible.device).masked_fill(~visible, torch.finfo(torch.float32).min)


class DistilBert(Encoder):
    """Sanh et al. (2019), "DistilBERT, a distilled version of BERT"."""

    def make(self, settings: Any) -> nn.Module:
        return DistilBertModel(settings)

    def modules_of(self, i: int) -> list[nn.Module]:
        if i == 0:
            return [self.model.embeddings]
        return [self.model.transformer.layer[i - 1]] if i <= self.depth else []

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model.embeddings(ids, position_ids=_positions(ids))

    def shared(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.mask(_visible(x, lengths)[:, None, None])

    def attend(self, i: int, x: Tensor, shared: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.model.transformer.layer[i].attention(x, attention_mask=shared)

    def finish(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        layer = self.model.transformer.layer[i]
        x = layer.sa_layer_norm(attended + x)
        return layer.output_layer_norm(layer.ffn(x) + x)

    def linears(self) -> Iterator[AdaptableLinear]:
        for layer in self.model.transformer.layer:
            yield AdaptableLinear(layer.attention, "q_lin", ("query",))
            yield AdaptableLinear(layer.attention, "k_lin", ("key",))
            yield AdaptableLinear(layer.attention, "v_lin", ("value",))
            yield AdaptableLinear(layer.attention, "out_lin", ("attention_output",))
            yield AdaptableLinear(layer.ffn, "lin1", ("mlp_input",))
            yield AdaptableLinear(layer.ffn, "lin2", ("mlp_output",))


class Bert(Encoder):
    """Devlin et al. (2018), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"."""

    def make(self, settings: Any) -> nn.Module:
        return BertModel(settings, add_pooling_layer=False)

    def modules_of(self, i: int) -> list[nn.Module]:
        if i == 0:
            return [self.model.embeddings]
        return [self.model.encoder.layer[i - 1]] if i <= self.depth else []

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        positions = _positions(ids) + self.offset_of(self.model.config)
        return self.model.embeddings(ids, token_type_ids=torch.zeros_like(ids), position_ids=positions)

    def shared(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.mask(_visible(x, lengths)[:, None, None])

    def attend(self, i: int, x: Tensor, shared: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.model.encoder.layer[i].attention.self(x, shared)

    def finish(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        layer = self.model.encoder.layer[i]
        x = layer.attention.output(attended, x)
        return layer.output(layer.intermediate(x), x)

    def linears(self) -> Iterator[AdaptableLinear]:
        for layer in self.model.encoder.layer:
            for part in ("query", "key", "value"):
                yield AdaptableLinear(layer.attention.self, part, (part,))
            yield AdaptableLinear(layer.attention.output, "dense", ("attention_output",))
            yield AdaptableLinear(layer.intermediate, "dense", ("mlp_input",))
            yield AdaptableLinear(layer.output, "dense", ("mlp_output",))


class Roberta(Bert):
    """Liu et al. (2019), "RoBERTa: A Robustly Optimized BERT Pretraining Approach"."""

    def make(self, settings: Any) -> nn.Module:
        return RobertaModel(settings, add_pooling_layer=False)

    def offset_of(self, settings: Any) -> int:
        return settings.pad_token_id + 1


class DebertaV2(Encoder):
    """He et al. (2021), "DeBERTaV3: Improving DeBERTa using ELECTRA-Style Pre-Training".

    The embeddings of relative positions, which all blocks read, are of stage 0; the convolution beside the first block,
    which reads what that block does, is of stage 1.
    """

    implementation = "eager"

    def make(self, settings: Any) -> nn.Module:
        return DebertaV2Model(settings)

    def modules_of(self, i: int) -> list[nn.Module]:
        encoder = self.model.encoder
        if i == 0:
            tables = [getattr(encoder, name) for name in ("rel_embeddings", "LayerNorm") if hasattr(encoder, name)]
            return [self.model.embeddings, *tables]
        if i == 1 and encoder.conv is not None:
            return [encoder.layer[0], encoder.conv]
        return [encoder.layer[i - 1]] if i <= self.depth else []

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        embeddings = self.model.embeddings
        visible = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        return embeddings(ids, token_type_ids=torch.zeros_like(ids), position_ids=_positions(ids), mask=visible)

    def shared(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        encoder = self.model.encoder
        return _visible(x, lengths), encoder.get_rel_pos(x), encoder.get_rel_embedding()

    def attend(self, i: int, x: Tensor, shared: tuple[Tensor, Any, Any]) -> tuple[Tensor, Tensor | None]:
        visible, relative, embeddings = shared
        attention = self.model.encoder.layer[i].attention.self
        return attention(
            x, visible[:, None, None], output_attentions=True, relative_pos=relative, rel_embeddings=embeddings
        )

    def finish(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        layer = self.model.encoder.layer[i]
        x = layer.attention.output(attended, x)
        return layer.output(layer.intermediate(x), x)

    def block(self, i: int, x: Tensor, shared: tuple[Tensor, Any, Any], positions: Tensor | None = None) -> Tensor:
        convolution = self.model.encoder.conv
        if i > 0 or convolution is None:
            return super().block(i, x, shared, positions)
        seen = shared[0]
        x = x.masked_fill(~seen[:, :, None], 0)  # padding is a neighbour of the last token
        x = convolution(x, super().block(i, x, shared), seen.int())
        return x if positions is None else take(x, positions)

    def linears(self) -> Iterator[AdaptableLinear]:
        names = {"query": "query", "key": "key", "value": "value", "pos_key": "position_key"}
        for layer in self.model.encoder.layer:
            for name, part in (names | {"pos_query": "position_query"}).items():
                if hasattr(layer.attention.self, f"{name}_proj"):
                    yield AdaptableLinear(layer.attention.self, f"{name}_proj", (part,))
            yield AdaptableLinear(layer.attention.output, "dense", ("attention_output",))
            yield AdaptableLinear(layer.intermediate, "dense", ("mlp_input",))
            yield AdaptableLinear(layer.output, "dense", ("mlp_output",))


class ModernBert(Encoder):
    """Warner et al. (2024), "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder".

    Most blocks see a window around each token, with rotary tables of their own.
    """

    def make(self, settings: Any) -> nn.Module:
        model = ModernBertModel(settings)
        with torch.device("cpu"):  # computed from the settings: there is no file that it could come from
            model.rotary_emb = ModernBertRotaryEmbedding(settings)
        return model

    def modules_of(self, i: int) -> list[nn.Module]:
        if i == 0:
            return [self.model.embeddings]
        return [self.model.layers[i - 1] if i <= self.depth else self.model.final_norm]

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model.embeddings(ids)

    def shared(self, x: Tensor, lengths: Tensor) -> dict[str, tuple[Tensor, tuple[Tensor, Tensor]]]:
        places = torch.arange(x.shape[1], device=x.device)
        visible = _visible(x, lengths)[:, None, None]
        distance = (places[:, None] - places).abs()
        # a query at padding may have no token in its window, and sees itself: no attention is without a key
        near = visible & (distance <= self.model.config.sliding_window) | (distance == 0)
        masks = {"full_attention": self.mask(visible), "sliding_attention": self.mask(near)}
        kinds = set(self.model.config.layer_types)
        return {kind: (masks[kind], self.model.rotary_emb(x, places[None], kind)) for kind in kinds}

    def attend(self, i: int, x: Tensor, shared: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        layer = self.model.layers[i]
        mask, rotary = shared[layer.attention_type]
        return layer.attn(layer.attn_norm(x), position_embeddings=rotary, attention_mask=mask)

    def finish(self, i: int, x: Tensor, attended: Tensor) -> Tensor:
        layer = self.model.layers[i]
        x = x + attended
        return x + layer.mlp(layer.mlp_norm(x))

    def norm(self, x: Tensor) -> Tensor:
        return self.model.final_norm(x)

    def linears(self) -> Iterator[AdaptableLinear]:
        for layer in self.model.layers:
            yield AdaptableLinear(layer.attn, "Wqkv", ("query", "key", "value"))
            yield AdaptableLinear(layer.attn, "Wo", ("attention_output",))
            yield AdaptableLinear(layer.mlp, "Wi", ("mlp_input", "mlp_gate"))
            yield AdaptableLinear(layer.mlp, "Wo", ("mlp_output",))


BACKBONES: dict[str, type[Encoder]] = {
    "distilbert": DistilBert,
    "bert": Bert,
    "roberta": Roberta,
    "deberta-v2": DebertaV2,
    "modernbert": ModernBert,
}
"""Each architecture of `ARCHITECTURES`."""


def build(config: EncoderConfig) -> Encoder:
    """An encoder with fresh weights, drawn as transformers does; on the meta device without any.

    Raises:
        OptionError: of `settings`: transformers refuses them.
    """
    assert config.architecture is not None
    try:
        return BACKBONES[config.architecture](config)
    except OptionError:
        raise
    except Exception as error:  # sizes that do not fit each other
        raise OptionError(
            "settings", f"those of a {config.architecture}", dict(config.settings or {}), f"({first_line(error)})"
        ) from error


def _positions(ids: Tensor) -> Tensor:
    """`(1, T)`"""
    return torch.arange(ids.shape[1], device=ids.device)[None]


def _visible(x: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T)` booleans: which positions hold a token."""
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]
