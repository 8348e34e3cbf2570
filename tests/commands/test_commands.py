"""The commands that take people's text."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, SMALL, Run, book_state

from gpt_classifier import TextClassifier
from gpt_classifier.models.gpt import GPT, GPTConfig

TEXT = 'You are a winner, you\'ve been "selected" to receive $1000 cash, a=b, {c}'


def script(name: str) -> ModuleType:
    return importlib.import_module(f"gpt_classifier.commands.{name}")


@pytest.mark.usefixtures("short_run")
def test_predict_prints_label_probability_and_text_as_it_was_given(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("one\n\ntwo, three\n")
    predict = script("predict").main
    predict(["--outputs", str(tmp_path), "--text", TEXT, "--text", "one"])
    predict(["--outputs", str(tmp_path), "--input", str(tmp_path / "texts.txt")])
    printed = capsys.readouterr()
    rows = [line.split("\t") for line in printed.out.splitlines()]
    assert [row[2] for row in rows] == [TEXT, "one", "one", "", "two, three"]
    assert rows[1] == rows[2]
    assert rows[3] == ["", "the text is empty", ""]
    assert all(row[0] in ("ham", "spam") and 0.5 <= float(row[1]) <= 1 for row in rows if row[2])
    assert "synthetic" in printed.err
    assert "1 of 3 rows could not be classified" in printed.err

    predict(["--outputs", str(tmp_path), "--text", TEXT, "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == TEXT
    assert answer["predicted_label"] == max(answer["probabilities"], key=answer["probabilities"].get)


@pytest.mark.usefixtures("short_run")
def test_predict_writes_a_file_beside_its_columns_and_is_strict_on_request(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "new" / "out.csv"
    source.write_text('id,text,label\n7,"said ""hi"",\nand left",ham\n8,,spam\n')
    predict = script("predict").main
    arguments = ["--outputs", str(tmp_path), "--input", str(source), "--output", str(target)]
    predict(arguments)
    frame = pd.read_csv(target, dtype=str, keep_default_na=False)
    added = ["predicted_label", "confidence", "probability_ham", "probability_spam", "reason"]
    assert list(frame.columns) == ["id", "text", "label", *added]
    assert frame["text"][0] == 'said "hi",\nand left'
    assert frame[added].iloc[1].tolist() == ["", "", "", "", "the text is empty"]
    assert "2 messages in" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        predict([*arguments, "--strict"])
    assert stopped.value.code == 1
    with pytest.raises(SystemExit, match="it already has a column predicted_label"):
        predict(["--outputs", str(tmp_path), "--input", str(target)])
    with pytest.raises(SystemExit, match="it is the input, which would be lost"):
        predict(["--outputs", str(tmp_path), "--input", str(source), "--output", str(source)])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--outputs", ".", "--text", "hello"], "Train one first"),
        (["--checkpoint", "nowhere.ckpt", "--text", "hello"], r"there is no file .*nowhere\.ckpt"),
        (["--input", "nowhere.txt"], "--input: .* there is no file nowhere.txt"),
        (["--input", "*.odt"], "--input: .* there are no files that fit it"),
        (["--input", "a.ods"], r"--input: expected a file ending in \.csv"),
        (["--input", "-", "--input-format", "parquet"], r"a \.parquet file can't be read from standard input"),
        (["--input", "a.jsonl", "--output", "b.csv"], "rows of JSON can only be written as .jsonl"),
    ],
)
def test_predict_tells_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.ods", "a.jsonl"):
        Path(name).touch()
    with pytest.raises(SystemExit, match=expected):
        script("predict").main(arguments)


def test_generate_continues_the_prompt_and_tells_its_perplexity(capsys: pytest.CaptureFixture) -> None:
    prompt = "Every effort, a=b, moves you"
    for arguments in (["--temperature", "1", "--top-k", "5"], []):
        script("generate").main(["--model", "gpt2-nano", "--prompt", prompt, *arguments])
        printed = capsys.readouterr().out
        assert printed.startswith(prompt)
        perplexity = float(printed.split("perplexity of the prompt: ")[1].split()[0])
        assert 20 < perplexity < 3000  # random weights have about 8,192, one for each token


def test_generate_continues_the_end_of_a_prompt_longer_than_the_context(capsys: pytest.CaptureFixture) -> None:
    script("generate").main(["--model", "gpt2-nano", "--prompt", "word " * 1499 + "word", "--max-new-tokens", "2"])
    assert "(1024 tokens, the last of 1500)" in capsys.readouterr().out


def test_generate_takes_hydra_overrides_and_refuses_bad_ones() -> None:
    generate = script("generate").main
    generate(["--model", "gpt2-nano", "--prompt", "x", "model.weights=random", "model.backbone.n_layer=1"])
    for arguments, expected in (
        (["--prompt", ""], "--prompt: expected at least one character"),
        (["--prompt", "x", "--model", "gpt3"], "model=gpt3: conf/model has no such file"),
        (["--prompt", "x", "--model", "gpt2-nano", "model.weights=none.pth"], "none.pth does not exist"),
        (["--prompt", "x", "--top-k", "0"], "--top-k: expected a whole number of at least 1"),
        (["--prompt", "x", "--top-k", "3"], "only sampling can use it"),
        (["--prompt", "x", "--temperature", "nan"], "--temperature: expected a number"),
        (["--prompt", "x", "--model", "gpt2-nano", "model.backbone.vocab_size=9"], "gpt2-nano with 8192 tokens"),
    ):
        with pytest.raises(SystemExit, match=expected):
            generate(arguments)


def test_zero_shot_scores_two_ways_and_shows_continuations(capsys: pytest.CaptureFixture) -> None:
    small = ["data=sample_sms", "model.weights=random", "model.backbone.n_layer=1", "model.backbone.n_embd=24"]
    script("zero_shot").main(["--model", "gpt2-nano", "--show", "2", *small])
    printed = capsys.readouterr().out
    assert printed.count("continues") == 2
    assert "73 test messages, 33 of them spam" in printed
    assert "literal answer" in printed
    assert '" yes" against " no"' in printed
    assert "synthetic" in printed


def test_zero_shot_asks_for_a_class_that_exists() -> None:
    with pytest.raises(SystemExit, match="it has: ham, spam"):
        script("zero_shot").main(["--model", "gpt2-nano", "--positive-class", "toxic", "data=sample_sms"])


def test_cache_lists_and_clears_what_training_kept(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    cache = tmp_path / "activations"
    train("trainer.max_epochs=1", f"cache.dir={cache}")
    (cache / "of the user's").mkdir()
    capsys.readouterr()
    command = script("cache").main
    command(["--dir", str(cache)])
    printed = capsys.readouterr().out
    assert "173 messages, gpt2, depth 1, width 48, float32" in printed
    assert "1 entries" in printed
    command(["--clear", "--unused-days", "1", "--dir", str(cache)])
    assert "0 entries" in capsys.readouterr().out
    command(["--clear", "--dir", str(cache)])
    assert "1 entries" in capsys.readouterr().out
    assert [path.name for path in cache.iterdir()] == ["of the user's"]


class Page(HTMLParser):
    """The visible text of a page, and what it would fetch from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_evaluate_writes_a_page_that_needs_nothing_else(
    train: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    run = train("data.train_size=null")
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    evaluate = script("evaluate").main
    evaluate(["--checkpoint", str(checkpoint), "--text", "<script>alert(1)</script> call now"])
    folder = run.folder / "evaluation"
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1  # its own, which sorts
    assert "<script>alert(1)</script> call now" in page.text
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    accuracy = run.metrics["best"]["test"]["accuracy"]
    assert f"{accuracy:.2%}" in page.text
    assert "synthetic" in page.text
    assert f"evaluate --checkpoint {checkpoint} --text" in page.text
    assert "linear model" in page.text
    for section in ("What precision costs", "Most confident mistakes", "Inside one message", "calibration error"):
        assert section in page.text
    numbers = json.loads((folder / "evaluation.json").read_text())
    assert numbers["estimates"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert list(numbers["references"]) == ["linear model", "majority class"]
    frame = pd.read_csv(folder / "predictions.csv")
    assert (frame["label"] == frame["predicted_label"]).mean() == pytest.approx(accuracy)
    printed = capsys.readouterr()
    assert f"accuracy  {accuracy:8.4f}   95 % interval" in printed.out
    assert "checkpoint " in printed.err


def test_page_of_many_classes_shows_the_worst_and_tables_have_all(train: Callable[..., Run], tmp_path: Path) -> None:
    rows = [(f"word{i % 7} thing{i} {k}", f"class {i:02d}") for i in range(60) for k in range(5)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "many.csv", index=False)
    run = train("data=csv", f"data.path={tmp_path / 'many.csv'}", "data.train_size=null", "trainer.max_epochs=1")
    checkpoint = str(run.folder / "checkpoints" / "best.ckpt")
    script("evaluate").main(["--checkpoint", checkpoint])
    folder = run.folder / "evaluation"
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert "most often taken for" in page.text
    assert "most confused of 60 classes" in (folder / "report.html").read_text(encoding="utf-8")
    numbers = json.loads((folder / "evaluation.json").read_text())
    assert "confusion_matrix" not in numbers
    assert numbers["estimates"]["accuracy"]["value"] == pytest.approx(run.metrics["best"]["test"]["accuracy"])
    assert numbers["balanced_accuracy"] == pytest.approx(run.metrics["best"]["test"]["balanced_accuracy"])
    classes = pd.read_csv(folder / "classes.csv")
    assert len(classes) == 60
    assert classes["f1"].is_monotonic_increasing
    table = pd.read_csv(folder / "predictions.csv")
    assert list(table) == ["text", "label", "predicted_label", "probability"]
    mistakes = table[table["label"] != table["predicted_label"]]
    pairs = pd.read_csv(folder / "confusions.csv")
    assert pairs["messages"].sum() == len(mistakes)


def test_calibration_is_stored_with_the_checkpoint_and_changes_no_label(short_run: Run) -> None:
    checkpoint = short_run.folder / "checkpoints" / "best.ckpt"
    texts = short_run.texts("test")
    before = TextClassifier.from_checkpoint(checkpoint, precision="32-true")
    script("evaluate").main(["--checkpoint", str(checkpoint), "--calibrate"])
    after = TextClassifier.from_checkpoint(checkpoint, precision="32-true")
    assert after.temperature != 1.0
    assert after.predict(texts).tolist() == before.predict(texts).tolist()
    assert not np.allclose(after.predict_proba(texts), before.predict_proba(texts), atol=1e-3)
    numbers = json.loads((short_run.folder / "evaluation" / "evaluation.json").read_text())
    assert numbers["temperature"] == after.temperature


def test_evaluate_takes_other_messages_and_many_classes(train: Callable[..., Run], tmp_path: Path) -> None:
    words = (("bad", 1), ("so so", 3), ("good", 10))
    rows = [(f"{word} {i} thing", stars, f"id{i}{stars}") for i in range(20) for word, stars in words]
    pd.DataFrame(rows, columns=["body", "stars", "key"]).to_csv(tmp_path / "reviews.csv", index=False)
    table = ["data=csv", f"data.path={tmp_path / 'reviews.csv'}", "data.text_column=body", "data.label_column=stars"]
    run = train(*table, "data.train_size=null")
    checkpoint = str(run.folder / "checkpoints" / "best.ckpt")
    evaluate = script("evaluate").main
    evaluate(["--checkpoint", checkpoint, "--split", "all", "--out", str(tmp_path / "out"), *table])
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "60 messages · 3 classes" in page.text
    assert "key: id" in page.text
    frame = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    mistakes = int((frame["label"] != frame["predicted_label"]).sum())
    assert frame["key"].tolist() == [key for _, _, key in rows]
    wrong = pd.read_csv(tmp_path / "out" / "mistakes.csv", dtype=str)
    assert wrong["key"].tolist() == frame["key"][frame["label"] != frame["predicted_label"]].tolist()
    evaluate(["--checkpoint", checkpoint])
    own = pd.read_csv(run.folder / "evaluation" / "predictions.csv", dtype=str)
    assert set(zip(own["key"], own["text"], strict=True)) <= {(key, body) for body, _, key in rows}
    out = tmp_path / "out.jsonl"
    script("predict").main(
        [
            "--checkpoint",
            checkpoint,
            "--input",
            table[1].partition("=")[2],
            "--text-column",
            "body",
            "--output",
            str(out),
        ]
    )
    predicted = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["predicted_label"] for row in predicted} <= {1, 3, 10}
    assert [row["key"] for row in predicted] == frame["key"].tolist()
    assert ("Most frequent confusions" in page.text) == (mistakes > 0)
    assert ("There are none." in page.text) == (mistakes == 0)
    assert "texts are among those that it was trained on" in page.text
    with pytest.raises(SystemExit, match="labels that the classifier was not trained for: ham, spam"):
        evaluate(["--checkpoint", checkpoint, "data=sample_sms"])
    with pytest.raises(SystemExit, match="needs validation messages"):
        evaluate(["--checkpoint", checkpoint, "--split", "all", "--calibrate"])
    shutil.rmtree(run.folder / "splits")
    with pytest.raises(SystemExit, match="are not beside it"):
        evaluate(["--checkpoint", checkpoint])


def test_compare_names_one_to_ship(train: Callable[..., Run], capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    runs = [train(f"seed={seed}", "trainer.max_epochs=1", folder=f"run{seed}") for seed in (1, 2)]
    capsys.readouterr()
    checkpoints = [str(run.folder / "checkpoints" / "best.ckpt") for run in runs]
    script("compare").main(["--checkpoints", *checkpoints, "--baselines", "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert text.count("Ship ") == 1
    assert text.startswith("Ship ")
    rows = {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")}
    assert rows == {
        "classifier",
        "run1",
        "run2",
        "majority class",
        "bag of words, logistic regression",
        "bag of words, naive Bayes",
        "word n-grams, TF-IDF, LinearSVC",
        "character n-grams, TF-IDF, LinearSVC",
        "words and characters, TF-IDF, LinearSVC",
    }
    line = next(line for line in text.splitlines() if line.startswith("| run2 |"))
    assert f"{runs[1].metrics['best']['test']['accuracy']:.2%}" in line
    assert "synthetic" in capsys.readouterr().out


def test_look_inside_draws_one_message(short_run: Run, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    checkpoint = str(short_run.folder / "checkpoints" / "best.ckpt")
    look = script("look_inside").main
    look(["--checkpoint", checkpoint, "--text", "WIN $1000 now", "--out", str(tmp_path / "out"), "--layer", "2"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"attention.png", "tokens.png"}
    assert "' now'" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--layer: expected a whole number from 1 to 2"):
        look(["--checkpoint", checkpoint, "--text", "WIN", "--layer", "3"])


def test_examine_tells_how_many_labels_depend_on_the_padding(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    run = train("pooling=padded_last_token", "data.pad_to=train", "data.train_size=null", "optimizer.lr=1e-2")
    longest = run.metrics["data"]["pad_to"]
    capsys.readouterr()
    examine = script("examine").main
    checkpoint = str(run.folder / "checkpoints" / "best.ckpt")
    examine(["--weights", checkpoint, "--model", "gpt2-nano", "--out", str(tmp_path / "out"), "data=sample_sms"])
    printed = capsys.readouterr().out
    mean = train("pooling=mean", "trainer.max_epochs=1", folder="mean").folder / "checkpoints" / "best.ckpt"
    with pytest.raises(SystemExit, match="only one that reads a last token can be examined"):
        examine(["--weights", str(mean), "--model", "gpt2-nano", "data=sample_sms"])
    accuracy = run.metrics["best"]["test"]["accuracy"]
    assert f"test accuracy       {accuracy:8.2%} of" in printed
    assert f"padded to {longest}" in printed
    frame = pd.read_csv(tmp_path / "out" / "padding.csv")
    assert frame["tokens"].tolist() == list(range(1, longest + 1))
    assert frame["accuracy"].iloc[-1] == pytest.approx(accuracy)
    assert (tmp_path / "out" / "padding.png").stat().st_size > 10_000


def test_examine_opens_the_books_state_dict_and_refuses_what_is_no_classifier(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    width = 12
    config = GPTConfig(vocab_size=8192, n_positions=200, n_embd=width, n_layer=2, n_head=2)
    shapes = {"backbone.n_positions": 200, "backbone.n_embd": width, "backbone.n_layer": 2, "backbone.n_head": 2}
    overrides = ["data=sample_sms", *(f"model.{key}={value}" for key, value in shapes.items())]
    state = book_state(GPT(config).initialise().state_dict(), {"weight": torch.randn(2, width), "bias": torch.zeros(2)})
    examine = script("examine").main
    torch.save(state, tmp_path / "review_classifier.pth")
    arguments = ["--model", "gpt2-nano", "--out", str(tmp_path / "out"), *overrides, "--weights"]
    examine([*arguments, str(tmp_path / "review_classifier.pth")])
    assert "read at position -1, as the chapter does" in capsys.readouterr().out

    del state["out_head.bias"]
    torch.save(state, tmp_path / "no_bias.pth")
    examine([*arguments, str(tmp_path / "no_bias.pth")])
    del state["out_head.weight"]
    torch.save(state, tmp_path / "gpt.pth")
    for path, message in (("gpt.pth", "has no head for classes"), ("none.pth", "there is no file")):
        with pytest.raises(SystemExit, match=message):
            examine([*arguments, str(tmp_path / path)])


@pytest.mark.parametrize(
    "name",
    ["predict", "generate", "zero_shot", "cache", "experiments", "examine", "evaluate", "compare", "look_inside"],
)
def test_help_needs_no_heavy_import(name: str) -> None:
    path = ROOT / "scripts" / f"{name}.py"
    composes = name in ("generate", "zero_shot", "cache", "examine")
    heavy = {"torch", "lightning", "pandas", "matplotlib"} | (set() if composes else {"hydra", "omegaconf"})
    code = f"import sys; sys.argv = [{str(path)!r}, '--help']; import runpy\n"
    code += f"try: runpy.run_path({str(path)!r}, run_name='__main__')\n"
    code += f"except SystemExit: pass\nassert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_names_the_command_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for started, named in (
        ("scripts/look_inside.py", "python scripts/look_inside.py"),
        ("/lib/gpt_classifier/__main__.py", "python -m gpt_classifier look-inside"),
        ("/bin/gpt-classifier", "gpt-classifier look-inside"),
        ("/bin/pytest", "gpt-classifier look-inside"),
    ):
        monkeypatch.setattr(sys, "argv", [started])
        with pytest.raises(SystemExit):
            script("look_inside").main(["--help"])
        assert capsys.readouterr().out.startswith(f"usage: {named} [")


def test_a_folder_of_the_users_own_adds_to_conf(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    own = tmp_path / "my own, conf's"
    (own / "model").mkdir(parents=True)
    (own / "model" / "mine.yaml").write_text(
        "defaults: [gpt2-nano, _self_]\nweights: random\nbackbone: {n_layer: 1, n_embd: 24}\n"
    )
    (own / "data").mkdir()
    (own / "data" / "mine.yaml").write_text("defaults: [sample_sms, _self_]\nval_fraction: 0.2\n")
    script("generate").main(["--model", "mine", "--config-dir", str(own), "--prompt", "x"])
    assert "perplexity of the prompt" in capsys.readouterr().out
    run = train("data=mine", "trainer.max_epochs=1", base=["--config-dir", str(own), *SMALL])
    assert run.metrics["settings"]["data"] == "mine"
    checkpoint = str(run.folder / "checkpoints" / "best.ckpt")
    other = ["--config-dir", str(own), "--checkpoint", checkpoint, "--split", "val", "data=mine"]
    script("evaluate").main(other)
    table = pd.read_csv(run.folder / "evaluation" / "predictions.csv")
    assert len(table) == len(run.texts("val")) == 72  # 0.2 of the balanced 360
    with pytest.raises(SystemExit, match="--config-dir: expected a folder"):
        script("generate").main(["--model", "mine", "--config-dir", "nowhere", "--prompt", "x"])


@pytest.mark.usefixtures("short_run")
def test_predict_sets_what_computing_gains_from_unless_the_user_did(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    script("predict").main(["--outputs", str(tmp_path), "--text", "hello"])
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
