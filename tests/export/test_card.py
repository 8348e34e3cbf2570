"""What a model card says, and what it does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run
from exported import opened_gpt
from huggingface_hub import ModelCard

from gpt_classifier import TextClassifier
from gpt_classifier.commands import main as command
from gpt_classifier.export import card as cards
from gpt_classifier.export.card import Subject
from gpt_classifier.export.hugging_face import export
from gpt_classifier.spec import Base


def exported(classifier: TextClassifier, folder: Path, license: str | None = None) -> ModelCard:
    export(classifier, folder, license=license)
    return ModelCard.load(folder / "README.md")


def test_card_of_a_run_has_its_data_and_metrics_with_intervals(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train("trainer.max_epochs=1", "evaluate=final")
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    classifier = TextClassifier.load(checkpoint, device="cpu")
    before = exported(classifier, tmp_path / "before")
    assert "Not measured" in before.text
    assert before.data.eval_results is None

    command(["evaluate", "--checkpoint", str(checkpoint)])
    numbers = json.loads((run.folder / "evaluation" / "evaluation.json").read_text())
    accuracy = numbers["estimates"]["accuracy"]
    card = exported(classifier, tmp_path / "spam", license="cc-by-4.0")
    assert f"| {accuracy['value']:.4f} | {accuracy['low']:.4f} to {accuracy['high']:.4f} |" in card.text
    assert "On 73 test messages · sample_sms" in card.text
    assert "train messages: " in card.text
    assert "synthetic" in card.text
    assert "`ham`" in card.text
    assert str(tmp_path) not in card.content
    told = card.data.to_dict()
    assert told["license"] == "cc-by-4.0"
    assert told["pipeline_tag"] == "text-classification"
    assert told["library_name"] == "transformers"
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values["accuracy"] == accuracy["value"]

    elsewhere = {**numbers, "origin": {**numbers["origin"], "messages": "data=csv data.path=other.csv"}}
    (run.folder / "evaluation" / "evaluation.json").write_text(json.dumps(elsewhere))
    card = exported(classifier, tmp_path / "elsewhere")
    assert "| accuracy |" in card.text
    assert card.data.eval_results is None  # which would say that they are of the data it was trained on

    other = TextClassifier.load(run.folder / "checkpoints" / "last.ckpt", device="cpu")
    assert "Not measured" in exported(other, tmp_path / "other").text


def test_card_says_nothing_that_is_not_known_and_no_label_breaks_it(tmp_path: Path) -> None:
    classes = ("a`b\n# Heading", "---", "<script>")
    card = exported(opened_gpt(tmp_path / "ours", classes=classes, temperature=1.0), tmp_path / "theirs")
    told = card.data.to_dict()
    assert not {"license", "base_model", "datasets", "language", "model-index", "metrics"} & told.keys()
    assert "No license is stated" in card.text
    assert "Not known" in card.text
    assert "not calibrated" in card.text
    assert "- `aˋb # Heading`" in card.text
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert set(config["id2label"].values()) == set(classes)


def test_card_of_a_classifier_that_was_fitted_here_knows_no_run(tmp_path: Path) -> None:
    spec, model = opened_gpt(tmp_path / "ours").whole()
    text = cards.card(Subject("spam", spec, model, None, ["ham", "news", "spam"], None, ""))
    assert "Not known" in text
    assert "Not measured" in text


def test_card_names_the_pretrained_model_and_its_terms(tmp_path: Path) -> None:
    classifier = opened_gpt(tmp_path / "run" / "ours")
    spec, model = classifier.whole()
    labels = ["ham", "news", "spam"]
    fetched = replace(spec, base=Base("/somewhere", "openai-community/gpt2", "0" * 64))
    text = cards.card(Subject("spam", fetched, model, None, labels, None, ""))
    assert ModelCard(text).data.to_dict()["base_model"] == "openai-community/gpt2"
    assert "/somewhere" not in text
    # where all weights were trained, the run's configuration tells what they began from
    (tmp_path / "run" / "config.yaml").write_text("model: {hub: gpt2-nano, weights: pretrained}")
    text = cards.card(Subject("spam", spec, model, classifier.path, labels, None, ""))
    assert "`gpt2-nano`" in text
    assert "can grant no rights in the texts" in text
    assert "base_model" not in ModelCard(text).data.to_dict()


@pytest.mark.parametrize(
    ("truncate", "said"), [("tail", "It reads the end of a text"), ("error", "longer ones are to be refused")]
)
def test_card_says_what_is_read_of_a_long_text(tmp_path: Path, truncate: str, said: str) -> None:
    assert said in exported(opened_gpt(tmp_path / "ours", truncate=truncate), tmp_path / "theirs").text
