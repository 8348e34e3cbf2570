"""A folder that transformers opens by itself, as `pipeline("text-classification")`, with our probabilities."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gpt_classifier.atomic import replacing_folder, write_json, write_text
from gpt_classifier.errors import UserError
from gpt_classifier.export.alone import expect_alone
from gpt_classifier.export.card import Subject, card
from gpt_classifier.export.heads import ELSEWHERE, HEADS, TOLERANCE, shift_for
from gpt_classifier.export.tokenizer_files import write_tokenizer
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT
from gpt_classifier.pretraining.export import released, released_config
from gpt_classifier.spec import Spec, pooling_text
from gpt_classifier.tokenizers import tokenizer_from_state
from gpt_classifier.tokenizers.interface import Tokenizer

GPT_CLASS = "GPT2ForSequenceClassification"
WEIGHTS, PYTORCH = "model.safetensors", {"format": "pt"}


@torch.no_grad()
def export(classifier: TextClassifier, folder: Path, license: str | None = None, name: str | None = None) -> None:
    """Write `config.json`, weights in float32, the tokenizer and a model card.

    Args:
        classifier: to write; one of a GPT reads the last token, one of an encoder the first.
        folder: to make.
        license: what the card says, as the Hub writes it; `None` leaves it out.
        name: of the repository that it is for; `None` for the folder's.

    Raises:
        UserError: the class of transformers can't compute what the classifier does, or the folder can't be written.
    """
    spec, model = classifier.whole()
    expect_alone(spec, "hf")
    model = model.float().eval()
    tokenizer = tokenizer_from_state(spec.tokenizer)
    expect_expressible(spec, model, tokenizer)
    order = sorted(range(len(spec.task["classes"])), key=lambda i: spec.task["classes"][i])
    labels = [spec.task["classes"][i] for i in order]
    weight, bias = (part[order].double() / spec.temperature for part in (model.head.weight, model.head.bias))
    with replacing_folder(folder) as part:
        if isinstance(model.backbone, GPT):
            _write_gpt(model.backbone, weight, bias, labels, tokenizer.pad_id, part)
        else:
            _write_encoder(model, weight, bias, labels, spec, tokenizer, part)
        write_tokenizer(tokenizer, part, spec.max_length, spec.truncate)
        note = "" if isinstance(model.backbone, GPT) else HEADS[spec.backbone["architecture"]].note
        subject = Subject(name or folder.name, spec, model, classifier.path, labels, license, note)
        write_text(part / "README.md", card(subject))


def expect_expressible(spec: Spec, model: Classifier, tokenizer: Tokenizer) -> None:
    """Refuse what the class of transformers can't compute, all of it at once.

    Raises:
        UserError: it can't; what to train with instead is told.
    """
    found = list(_not_expressible(spec, model, tokenizer))
    if found:
        whose = GPT_CLASS if isinstance(model.backbone, GPT) else HEADS[spec.backbone["architecture"]].model
        reasons, settings = ("; ".join(reason for reason, _ in found), [s for _, s in found if s])
        instead = f"Train with {' '.join(settings)} for it. " if settings else ""
        raise UserError(
            f"--to hf: {whose} of transformers can't express this classifier: {reasons}. {instead}{ELSEWHERE}"
        )


def _not_expressible(spec: Spec, model: Classifier, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Reasons, each with the override that a run would need."""
    if spec.task["kind"] != "single_label":
        yield f"it has one class for each text, not the task {spec.task['kind']}", ""
    gpt = isinstance(model.backbone, GPT)
    wanted = "last_token" if gpt else "first_token"
    if spec.pooling["name"] != wanted:
        which = "last" if gpt else "first"
        yield f"it reads the {which} token, this one pooling={pooling_text(spec.pooling)}", f"pooling={wanted}"
    if model.words is not None:
        yield "it has no bag of tokens beside the transformer", "bag_of_tokens=false"
    if spec.truncate == "head_tail":
        yield "its tokenizer keeps one end of a long text, this one both", "data.truncate=head"
    if gpt and not model.backbone.causal:
        yield "its attention is causal", "model.causal=true"
    if gpt and int(tokenizer.encode(["a"], spec.max_length, "head")[0][0][-1]) == tokenizer.pad_id:
        yield "it takes the last token for padding, as this tokenizer ends a text with the token that pads", ""


def _write_gpt(gpt: GPT, weight: Tensor, bias: Tensor, labels: list[str], pad_id: int, folder: Path) -> None:
    state = {f"transformer.{name}": tensor for name, tensor in released(gpt.state_dict()).items()}
    state["transformer.ln_f.bias"] = shift_for(weight, bias, gpt.ln_f.bias)
    state["score.weight"] = weight.float()
    save_file(state, folder / WEIGHTS, PYTORCH)
    config = {
        **released_config(gpt.config),
        "architectures": [GPT_CLASS],
        "n_ctx": gpt.config.n_positions,
        **dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), gpt.config.dropout),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), pad_id),
        "torch_dtype": "float32",
        "use_cache": False,
        **_question(labels),
    }
    write_json(folder / "config.json", config)


def _question(labels: list[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def _write_encoder(
    model: Classifier, weight: Tensor, bias: Tensor, labels: list[str], spec: Spec, tokenizer: Tokenizer, folder: Path
) -> None:
    import transformers  # seconds, and only where an encoder was opened, which takes it

    encoder: Any = model.backbone.model
    head = HEADS[spec.backbone["architecture"]]
    tensors, settings = head.made(encoder, weight, bias)
    config = copy.deepcopy(encoder.config)
    config.update({**settings, **_question(labels), "pad_token_id": tokenizer.pad_id, "dtype": "float32"})
    config.architectures = [head.model]
    theirs = getattr(transformers, head.model)(config).eval()
    prefix = theirs.base_model_prefix
    state = {f"{prefix}.{name}": tensor for name, tensor in encoder.state_dict().items()}
    theirs.load_state_dict(state | {name: tensor.float() for name, tensor in tensors.items()})
    _expect_same(theirs, model, spec, tokenizer, labels)
    save_file({name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}, folder / WEIGHTS, PYTORCH)
    theirs.config.save_pretrained(folder)


def _expect_same(theirs: Any, model: Classifier, spec: Spec, tokenizer: Tokenizer, labels: list[str]) -> None:
    """Refuse a head that computes other probabilities: how exact ModernBERT's is, depends on its weights.

    Raises:
        UserError: it does, on rows of random tokens.
    """
    random = torch.Generator().manual_seed(0)
    lengths = torch.arange(1, 9).clamp(max=spec.max_length)
    ids = torch.randint(tokenizer.vocab_size, (len(lengths), int(lengths.max())), generator=random)
    ids[ids == tokenizer.pad_id] = (tokenizer.pad_id + 1) % tokenizer.vocab_size
    seen = torch.arange(ids.shape[1]) < lengths[:, None]
    ids = ids.masked_fill(~seen, tokenizer.pad_id)
    order = [spec.task["classes"].index(label) for label in labels]
    expected = (model(ids, lengths)[:, order] / spec.temperature).softmax(dim=1)
    off = float((theirs(input_ids=ids, attention_mask=seen.long()).logits.softmax(dim=1) - expected).abs().max())
    if not off <= TOLERANCE:
        raise UserError(
            f"--to hf: {type(theirs).__name__} of transformers can't express this classifier: its probabilities would "
            f"be off by {off:.1g}. {ELSEWHERE}"
        )
