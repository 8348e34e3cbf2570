"""What is wrong with a file, a number or a path is told before torch is imported, and nothing else is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_classifier.commands.sweep import look_at_sweep
from gpt_classifier.config import compose
from gpt_classifier.data.sources import Table
from gpt_classifier.errors import UserError
from gpt_classifier.look import look
from gpt_classifier.tables import labelled
from gpt_classifier.tables.usable import expect_classes

CASES = {
    "train data=csv data.path=none.csv": "data.path: .* there is no file none.csv",
    "train data=csv data.path=good.csv data.text_column=body": r"data.text_column: .* \(text, label\)",
    "train data=csv data.path=one.csv": "at least two classes, but every message has the label 'a'",
    "train data=csv data.path=empty.csv": r"2 of 3 rows .* the label is empty \(2, the first in data row 2\)",
    "train data=csv data.path=good.csv data.val_path=none.csv": "data.val_path: .* there is no file none.csv",
    "train data.path=good.csv": r"data.path: expected the SMS Spam Collection.* good.csv\. Add data=csv",
    "train data.path=good.csv data.text_column=body": "data.text_column: .* without data=csv, data=hf. Add one",
    "train freeze.rank=2": r"freeze.rank: there is no such option without freeze=lora\. Add that",
    "train good.csv": "good.csv: expected KEY=VALUE .* write data=csv data.path=good.csv",
    "pretrain model=bert-base": r"model=bert-base: expected a GPT, as encoders can't be .*gpt2-small, gpt2-xl\.\n",
    "pretrain pooling=mean data.path=letters.txt": r"pooling: there is no such option\.",
    "pretrain letters.txt": r"letters.txt: expected KEY=VALUE or GROUP=FILE\.\n",
    "train model=gpt2-nano freeze=last_n_blocks freeze.n=9": "freeze.n: expected 1 to 6",
    **{
        f"train model={model} model.weights=run/best.ckpt": r"model.weights: .* run/best.ckpt, .* Set ckpt_path "
        for model in ("gpt2-nano", "encoder", "bert-base")
    },
    "train model.weights=none": "model.weights: .* none does not exist",
    "train optimizer.lr=-1": "optimizer.lr: expected a number of at least 0",
    "train data.batch_size=0": "data.batch_size: expected a whole number of at least 1",
    "train data.test_fraction=2": "data.test_fraction: expected a number from 0 to 1",
    "train ckpt_path=none.ckpt": "ckpt_path: there is no file none.ckpt",
    "train -m data=csv data.path=good.csv freeze=last_n_blocks freeze.n=1,99": "freeze.n=99",
    "predict --checkpoint none.ckpt hello": "checkpoint: there is no file .*none.ckpt",
    "predict --checkpoint good.csv --input good.csv --text-column body": r"--text-column: .* \(text, label\)",
    "predict --input none.csv": "--input: .* there is no file none.csv",
    "evaluate --checkpoint none.ckpt": "checkpoint: there is no file .*none.ckpt",
    "evaluate --checkpoint good.csv data=csv data.path=none.csv": "data.path: .* there is no file none.csv",
}


def test_mistakes_are_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("text,label\nhello,a\nbye,b\n")
    (tmp_path / "one.csv").write_text("text,label\nhello,a\nbye,a\n")
    (tmp_path / "empty.csv").write_text("text,label\nhello,a\nbye,\nso,\n")
    program = (
        "import re, sys, io, contextlib\n"
        "from gpt_classifier.commands import main\n"
        "for case, expected in eval(sys.argv.pop()).items():\n"
        "    told = io.StringIO()\n"
        "    sys.argv = ['gpt-classifier', *case.split()]\n"
        "    try:\n"
        "        with contextlib.redirect_stderr(told):\n"
        "            main()\n"
        "    except SystemExit as error:\n"
        "        text = told.getvalue() + str(error)\n"
        "        assert re.search(expected, text), (case, text)\n"
        "    else:\n"
        "        raise AssertionError(case)\n"
        "    heavy = {'torch', 'lightning', 'pandas', 'matplotlib'} & sys.modules.keys()\n"
        "    assert not heavy, (case, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", program, repr(CASES)], check=True, cwd=tmp_path)


cells = st.sampled_from(["a", "b", "", " ", "nan", "1", "2.0", '"', '""', '"a,b"', "é", "\ud800", "a\tb"])
lines = st.lists(st.lists(cells, min_size=1, max_size=4).map(",".join), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    header=st.sampled_from(["text,label", "label,text,id", "text;label", "text", "body,label", "", "text,label,"]),
    lines=lines,
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]),
    quoting=st.sampled_from(["minimal", "none"]),
    drop=st.booleans(),
    enough=st.integers(1, 4),
)
def test_look_and_full_reading_agree(
    tmp_path: Path, header: str, lines: list[str], ending: str, quoting: str, drop: bool, enough: int
) -> None:
    path = tmp_path / f"a{ending}"
    if ending.startswith(".json"):
        objects = [f'{{"text": "{line[:1]}", "label": {len(line)}}}' for line in lines]
        content = "[" + ",".join(objects) + "]" if ending == ".json" else "\n".join([header[:2], *objects])
    else:
        content = "\n".join([header, *lines])
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    options = {"quoting": quoting, "drop_incomplete": drop}
    refused = looked = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelled, "ENOUGH", enough)
        try:
            Table(str(path), "text", "label", **options).look()  # type: ignore[arg-type]
        except UserError as error:
            looked = str(error)
    try:
        expect_classes(Table(str(path), "text", "label", **options).load().class_names)  # type: ignore[arg-type]
    except UserError as error:
        refused = str(error)
    assert looked in ("", refused)
    if len(lines) < enough:
        assert looked == refused


def test_look_accepts_what_composes_and_reads_no_more_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "x,a\ny,b\n" * 1000 + "z,\n")
    look(compose(["data=csv", f"data.path={tmp_path}/a.csv", "model=gpt2-nano"]))
    (tmp_path / "sms.csv").write_text("ham\tOk lar...\nspam\tFree entry\n")
    look(compose(["data=sms_spam", f"data.path={tmp_path}/sms.csv"]))
    for experiment in ("quickstart", "book/chapter", "book/11_lora"):
        look(compose([f"experiment={experiment}"]))
    monkeypatch.setattr(labelled, "LARGE", 10)
    (tmp_path / "a.json").write_text("[this would take seconds to read]")
    look(compose(["data=csv", f"data.path={tmp_path}/a.json"]))


def test_each_job_of_a_sweep_is_looked_at_and_what_hydra_says_better_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,a\ny,b\n")
    data = ["-m", "data=csv", f"data.path={tmp_path}/a.csv", "model=gpt2-nano"]
    look_at_sweep([*data, "seed=1,2", "optimizer.lr=1e-3,1e-4", "hydra.sweep.dir=x"])
    look_at_sweep([*data, "optimiser.lr=1,2"])
    look_at_sweep([*data, "seed=range(1,3)", "freeze=glob(*)"])
    with pytest.raises(UserError, match=r"freeze\.n: .* \(in the job data=csv .*seed=1 .*freeze\.n=7\)"):
        look_at_sweep([*data, "seed=1,2", "freeze=last_n_blocks", "freeze.n=6,7"])
