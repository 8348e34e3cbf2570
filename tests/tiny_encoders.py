"""Checkpoints of encoders as transformers writes them, of a few thousand random weights."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from torch import nn

from gpt_classifier.encoders.config import EncoderConfig

SIZES = {"vocab_size": 50, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 40}
OF_BERT = {**SIZES, "hidden_size": 24, "intermediate_size": 32}
DEBERTA_V3 = {
    **OF_BERT,
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
CONVOLVED = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3, "conv_act": "gelu"}

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": (
        "distilbert",
        {"vocab_size": 50, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 32, "max_position_embeddings": 40},
    ),
    "bert": ("bert", OF_BERT),
    "roberta": ("roberta", {**OF_BERT, "pad_token_id": 1, "type_vocab_size": 1}),
    "deberta-v3": ("deberta-v2", DEBERTA_V3),
    "deberta-v2": ("deberta-v2", {**OF_BERT, **CONVOLVED, "type_vocab_size": 2}),
    "modernbert": (
        "modernbert",
        {
            **OF_BERT,
            "local_attention": 6,
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
    ),
}
"""Architecture and settings; half the window of ModernBERT's local attention is shorter than the texts of tests."""

MODELS = {
    "distilbert": transformers.DistilBertForMaskedLM,
    "bert": transformers.BertForSequenceClassification,
    "roberta": transformers.RobertaForMaskedLM,
    "deberta-v3": transformers.DebertaV2ForMaskedLM,
    "deberta-v2": transformers.DebertaV2Model,
    "modernbert": transformers.ModernBertForSequenceClassification,
}
"""As files have them: with several heads, and without one."""


def config_of(name: str, **settings: Any) -> EncoderConfig:
    architecture, sizes = ENCODERS[name]
    return EncoderConfig(architecture, {**sizes, **settings})


def write(name: str, folder: Path, **settings: Any) -> Any:
    """A checkpoint in a folder, and the model of transformers without its head."""
    whole = MODELS[name]
    model = whole(whole.config_class(**ENCODERS[name][1], **settings)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return getattr(model, model.base_model_prefix, model)


def word_piece(special: list[str], vocab_size: int) -> tuple[tokenizers.Tokenizer, Any]:
    """BERT's tokenizer without a vocabulary, and what trains one."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    return tokenizer, tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, show_progress=False
    )


def write_bert(folder: Path, texts: list[str]) -> Path:
    """A folder as on the Hugging Face Hub, with a BERT whose vocabulary is of some texts."""
    tokenizer, trainer = word_piece(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], 500)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        "[CLS] $0 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    settings = {**OF_BERT, "vocab_size": 500, "max_position_embeddings": 200}
    transformers.BertForMaskedLM(transformers.BertConfig(**settings)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
