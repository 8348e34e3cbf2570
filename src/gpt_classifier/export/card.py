"""The model card of a classifier: what is known of it, and nothing else."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from gpt_classifier import __version__
from gpt_classifier.checkpoints import run_folder
from gpt_classifier.errors import printable
from gpt_classifier.evaluation.messages import origin
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.spec import Spec

NAMES = {"accuracy": "accuracy", "macro F1": "f1", "AUROC": "roc_auc"}
"""Of metrics: in `evaluation.json`, and on the Hub."""

SHOWN = (
    *("parameters", "backbone", "reads", "model", "freeze", "optimizer.lr", "trainer.max_epochs", "data.batch_size"),
    *("seed", "trained parameters"),
)
"""What is told of a run: nothing that names folders of the machine it ran on."""

MOST_LABELS = 200
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Args:
        name: of the model, or of its repository.
        spec: of the classifier, with the base that it was trained on where that is known.
        model: the classifier.
        path: its checkpoint, in the folder of its run; `None` for none.
        labels: C names, in the order of the logits.
        license: as the Hub writes it; `None` where nobody said.
        note: what a user must know of its weights, or an empty string.
    """

    name: str
    spec: Spec
    model: Classifier
    path: Path | None
    labels: list[str]
    license: str | None
    note: str


def card(subject: Subject) -> str:
    """The card, in Markdown, with the front matter that the Hub reads."""
    run = dict(origin(Predictor(subject.model, subject.spec, "32-true"), subject.path, ())) if subject.path else {}
    measured = _measured(subject.path)
    base = _base(subject)
    sections = [
        f"---\n{_front_matter(subject, run, measured, base)}\n---",
        f"# {_line(subject.name.rpartition('/')[2])}",
        f"A text classifier: one of {len(subject.labels):,} labels for each text, with a probability for each. It was "
        f"fine-tuned from {_code(base) if base else 'a pretrained transformer'} with gpt-classifier {__version__}.",
        f"## How to use it\n\n{_use(subject)}",
        f"## Labels\n\n{_labels(subject.labels)}",
        f"## Training data\n\n{_data(run)}",
        f"## Evaluation\n\n{_evaluation(measured)}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(subject)),
        f"## Terms\n\n{' '.join(_terms(subject, base))}",
    ]
    if rows := [(name, run[name]) for name in SHOWN if name in run]:
        table = "\n".join(f"| {name} | {_line(value)} |" for name, value in rows)
        sections.append(f"## Model and training\n\n| | |\n|---|---|\n{table}")
    return "\n\n".join(sections) + "\n"


def _front_matter(subject: Subject, run: dict[str, str], measured: dict[str, Any], base: str | None) -> str:
    estimates = {NAMES[name]: one for name, one in measured.get("estimates", {}).items() if name in NAMES}
    known = {kind: one["value"] for kind, one in estimates.items() if one["value"] is not None}
    name = subject.name.rpartition("/")[2]
    on_hub = run.get("data") == "hf" and REPOSITORY.fullmatch(run.get("data.path", ""))
    data = run["data.path"] if on_hub else run.get("data", "")
    results = [
        EvalResult(
            task_type="text-classification", dataset_type=data, dataset_name=data, metric_type=kind, metric_value=value
        )
        for kind, value in known.items()
        if data and measured["origin"].get("messages") == "the splits of its run"
    ]
    return ModelCardData(
        license=subject.license,
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=base if base and REPOSITORY.fullmatch(base) else None,
        datasets=[data] if on_hub else None,
        tags=["text-classification", "gpt-classifier"],
        metrics=list(known) or None,
        model_name=name if results else None,
        eval_results=results or None,
    ).to_yaml()


def _measured(path: Path | None) -> dict[str, Any]:
    """What `evaluate` left in the folder of the run, if it is of this checkpoint."""
    if path is None:
        return {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads((run_folder(path) / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
        if Path(found["origin"]["checkpoint"]).name == path.name:
            return found
    return {}


def _base(subject: Subject) -> str | None:
    """The pretrained weights: a repository on the Hub, or a model of the package; a path tells others nothing."""
    if subject.spec.base is not None:
        return subject.spec.base.hub
    if subject.path is None:
        return None
    with contextlib.suppress(OSError, OmegaConfBaseException, YAMLError, UnicodeDecodeError):
        config = OmegaConf.load(run_folder(subject.path) / "config.yaml")
        return (
            OmegaConf.select(config, "model.hub") if OmegaConf.select(config, "model.weights") == "pretrained" else None
        )
    return None


def _use(subject: Subject) -> str:
    return f"""```python
from transformers import pipeline

classify = pipeline("text-classification", model={json.dumps(subject.name)}, truncation=True, top_k=None)
classify("…")
```"""


def _labels(labels: list[str]) -> str:
    more = f"\n- … {len(labels) - MOST_LABELS:,} more, in `config.json`" if len(labels) > MOST_LABELS else ""
    return "\n".join(f"- {_code(label)}" for label in labels[:MOST_LABELS]) + more


def _data(run: dict[str, str]) -> str:
    if "data" not in run:
        return "Not known: the folder of the run was not beside the classifier."
    path = run.get("data.path", "None")
    named = "" if path == "None" else f" ({_code(path if run['data'] == 'hf' else Path(path).name)})"
    splits = [
        f"- {name}: {_line(run[name])}" for name in ("train messages", "val messages", "test messages") if name in run
    ]
    return "\n".join([f"`data={run['data']}`{named}; each split by class:", "", *splits])


def _evaluation(measured: dict[str, Any]) -> str:
    if not measured:
        return "Not measured: `gpt-classifier evaluate` does, and a new export tells it here."
    rows = [
        f"| {name} | {one['value']:.4f} | {one['low']:.4f} to {one['high']:.4f} |"
        for name, one in measured["estimates"].items()
        if None not in (one["value"], one["low"], one["high"])
    ]
    references = [
        f"- for comparison, {_line(one['name'])}: accuracy {one['accuracy']:.4f}, macro F1 {one['macro_f1']:.4f}"
        for one in measured["references"].values()
    ]
    about = f"On {measured['messages']:,} {_line(' · '.join(measured['measured_on']))}; intervals by bootstrap."
    table = "\n".join(["| metric | value | 95 % interval |", "|---|---|---|", *rows])
    return "\n\n".join([about, table, *(["\n".join(references)] if references else [])])


def _limits(subject: Subject) -> Iterator[str]:
    spec = subject.spec
    kept = {"head": "the beginning", "tail": "the end"}.get(spec.truncate)
    if kept:
        yield f"It reads {kept} of a text, at most {spec.max_length:,} tokens, if the pipeline has `truncation=True`."
    else:
        yield (
            f"It was made for texts of at most {spec.max_length:,} tokens; longer ones are to be refused before they "
            f"come here: `truncation=True` keeps their beginning."
        )
    yield "It always answers with one of its labels, for texts of another kind or language, too."
    if spec.temperature == 1:
        yield "Its probabilities were not calibrated."
    if spec.note:
        yield _line(spec.note)
    if subject.note:
        yield subject.note
    if spec.tokenizer["kind"] == "tokenizers" and json.loads(spec.tokenizer["json"])["model"]["type"] == "Unigram":
        yield "Where a text spells a special token, such as `[SEP]`, its vocabulary may read it as one."


def _terms(subject: Subject, base: str | None) -> Iterator[str]:
    if subject.license:
        yield f"License: {_line(subject.license)}."
    else:
        yield (
            "No license is stated. Whoever publishes this model adds one (`license:` at the top), as the terms of the "
            "training data and of the pretrained model allow."
        )
    if base == "gpt2-nano":
        yield (
            "The pretrained gpt2-nano and its vocabulary were made from texts of other people (film reviews published "
            "for research, dialogues, mails, web text, chat, speeches), whose terms differ and are partly not stated. "
            "It is offered for research and teaching; its authors can grant no rights in the texts."
        )


def _code(text: str) -> str:
    return f"`{' '.join(printable(text).split()).replace('`', 'ˋ')}`"


def _line(text: str) -> str:
    """What a table or a list can hold: one line, without what Markdown or a terminal would obey."""
    return re.sub(r"([|<\[])", r"\\\1", " ".join(printable(text).split()))
