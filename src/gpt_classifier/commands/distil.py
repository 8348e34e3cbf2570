"""Train a small model, the student, on what fine-tuned ones, its teachers, say of texts without labels.

gpt-classifier distil --teacher outputs/…/best.ckpt --student model=gpt2-nano data.path=texts.txt
gpt-classifier distil --teacher a.ckpt b.ckpt --temperature 4 --student data.path=texts.csv data.test_path=test.csv

What follows --student are options as train takes them; gpt-classifier train --help lists them. The data are texts:
data.path, data.text_column and so on, and with true labels, if there are any, data.val_path and data.test_path.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from gpt_classifier.checkpoints import find_teacher
from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.commands.arguments import add_import, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.config import quote_paths
from gpt_classifier.errors import UserError
from gpt_classifier.look import look

OWN_FOLDER = re.compile(r"\+*(?:hydra\.run\.dir|run_dir)=(.*)")
"""Overrides that name the folder of the student."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("distil", __doc__)
    what = "best.ckpt of a run, or a saved classifier; of several the mean is learned"
    parser.add_argument("--teacher", nargs="+", required=True, metavar="CHECKPOINT", help=what)
    parser.add_argument("--temperature", type=float, help="softens probabilities of teacher and student (default: 2)")
    add_import(parser)
    what = "options of the student, as train takes them; all that follows is of it"
    parser.add_argument("--student", nargs=argparse.REMAINDER, required=True, metavar="OPTION", help=what)
    options = parser.parse_args(arguments)
    if {"-h", "--help"} & set(options.student):
        parser.parse_args(["--help"])
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    student = quote_paths(options.student)
    with readable_exit():
        if {"-m", "--multirun"} & set(student):
            raise UserError("-m: distil trains one student at a time. Leave it out.")
        folders = [found[1].strip("'\"") for override in student if (found := OWN_FOLDER.fullmatch(override))]
        paths = [find_teacher(name, Path("outputs"), folders) for name in options.teacher]
    given = [] if options.temperature is None else [f"temperature={options.temperature}"]

    def task(cfg: DictConfig) -> float:
        look(cfg)
        from gpt_classifier.device import prepare_process  # seconds of imports that a wrong path does not need
        from gpt_classifier.distillation.run import distil

        prepare_process(training=True)
        import_modules(options.modules)
        return distil(cfg, run_context(), paths).score

    run_hydra(task, "distil", [*given, *student])
