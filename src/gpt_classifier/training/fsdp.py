"""How FSDP shards the model."""

from torch import nn

from gpt_classifier.model.gpt import Block


def wrap_blocks() -> set[type[nn.Module]]:
    """One unit for each transformer block; embeddings, final LayerNorm and head form the outermost."""
    return {Block}
