"""A pretrained model as a folder that `model.weights` takes, and transformers too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gpt_classifier.atomic import replacing, write_json, write_text
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import TRANSPOSED
from gpt_classifier.pretraining.vocabulary import save_vocabulary


@dataclass(frozen=True)
class Text:
    """A text that was learned from.

    Args:
        file: its name.
        documents: how many were learned from.
        tokens: of them.
        bits_per_byte: of its held-out documents.
    """

    file: str
    documents: int
    tokens: int
    bits_per_byte: float


@dataclass(frozen=True)
class Pretrained:
    """What the model card tells.

    Args:
        model: its name.
        texts: what was learned from.
        tokens_seen: tokens of all passes.
        val_loss: nats per token of all held-out documents.
        masked: share of the batches that had hidden tokens.
        hardware: what it ran on.
        hours: of training, without validation.
        commands: that made it, one for each time that it was resumed.
        samples: continuations.
    """

    model: str
    texts: list[Text]
    tokens_seen: int
    val_loss: float
    masked: float
    hardware: str
    hours: float
    commands: list[str]
    samples: list[str]


def export(model: GPT, ranks: dict[bytes, int], facts: Pretrained, folder: Path) -> None:
    """Write weights in bfloat16 under the released names, `config.json`, the vocabulary and a model card.

    Args:
        model: pretrained.
        ranks: its vocabulary.
        facts: for the card.
        folder: is made; files of the same names are overwritten.
    """
    state = {name: tensor.detach().cpu().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    with replacing(folder / "model.safetensors") as part:
        save_file(released(state), part, {"format": "pt"})
    write_json(folder / "config.json", released_config(model.config))
    save_vocabulary(ranks, folder / "vocabulary.tiktoken")
    write_text(folder / "README.md", card(model, facts))


def released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as the released files have them: linear ones transposed."""
    return {name: (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous() for name, tensor in state.items()}


def released_config(config: GPTConfig, dtype: str = "bfloat16") -> dict[str, object]:
    """Sizes under the names of the released `config.json`.

    Args:
        config: sizes.
        dtype: of the weights.
    """
    end = config.vocab_size - 1
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": dtype,
    }


def card(model: GPT, facts: Pretrained) -> str:
    """The model card, in Markdown."""
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    samples = "\n".join("> " + " ".join(sample.split()) + "\n>" for sample in facts.samples).removesuffix("\n>")
    commands = "\n".join(facts.commands)
    rows = "\n".join(
        f"| text | `{text.file}`: {text.documents:,} documents, {text.tokens:,} tokens; "
        f"{text.bits_per_byte:.3f} bits per byte of those held out |"
        for text in facts.texts
    )
    passes = facts.tokens_seen / sum(text.tokens for text in facts.texts)
    masked = f", {facts.masked:.0%} of them in batches with hidden tokens and no causal mask" if facts.masked else ""
    return f"""# {facts.model}

A GPT-2 of {parameters:,} parameters: {config.n_layer} blocks of width {config.n_embd} with {config.n_head} heads, \
a context of {config.n_positions:,} tokens, and a byte-level BPE of {config.vocab_size:,} tokens with GPT-2's split \
pattern, `<|endoftext|>` last. Weights are bfloat16 under the released names.

| | |
|---|---|
{rows}
| tokens seen | {facts.tokens_seen:,} ({passes:.2f} passes){masked} |
| held-out documents | {facts.val_loss:.3f} nats per token |
| hardware | {facts.hardware} |
| training, without validation | {facts.hours:.2f} hours |

```
{commands}
```

It was made to be fine-tuned, for teaching and for tests. It knows little and writes no text that anybody should read
for its content; what stands in its training text, it may repeat, unkind words included.

Sampled at temperature 0.7 among the 50 likeliest tokens:

{samples}
"""
