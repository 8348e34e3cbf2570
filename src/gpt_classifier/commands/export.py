"""Write a fine-tuned classifier as what other programs open.

gpt-classifier export --checkpoint latest --to hf --out spam-hf
gpt-classifier export --checkpoint latest --to hf --out spam-hf --license cc-by-4.0 --push me/spam
"""

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_classifier.commands.arguments import add_checkpoint, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.tables.unlabelled import UnlabelledTexts


@dataclass(frozen=True)
class Target:
    """What a classifier can be written as.

    Args:
        module: of `gpt_classifier.export`, imported when it is asked for.
        extra: that installs what it needs.
        opened: how to open it, with `{out}` for the folder.
    """

    module: str
    extra: str
    opened: str


TARGETS = {
    "bundle": Target("bundle", "encoders", 'TextClassifier.load("{out}") opens it'),
    "hf": Target(
        "hugging_face", "encoders", 'pipeline("text-classification", model="{out}", truncation=True) opens it'
    ),
    "onnx": Target("onnx", "onnx", 'TextClassifier.load("{out}") opens it'),
    "html": Target("html", "encoders", "a browser opens the page in it"),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("export", __doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--to",
        choices=tuple(TARGETS),
        required=True,
        help="bundle: what TextClassifier.load opens; hf: what transformers opens; onnx: what onnxruntime runs; "
        "html: one page that needs no server",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder, new or empty")
    parser.add_argument("--int8", action="store_true", help="onnx: weights in 8 bits")
    parser.add_argument("--examples", type=Path, metavar="FILE", help="html: texts to click on, one a line")
    parser.add_argument("--license", help="hf: what the model card says, as the Hub writes it, such as cc-by-4.0")
    parser.add_argument("--push", metavar="NAME", help="hf: upload it to this repository of the Hugging Face Hub")
    parser.add_argument("--public", action="store_true", help="hf: the repository may be public (default: private)")
    options = parser.parse_args(arguments)
    for target, names in {"onnx": ("int8",), "html": ("examples",), "hf": ("license", "push", "public")}.items():
        given = [name for name in names if getattr(options, name)]
        if given and options.to != target:
            parser.error(f"--{given[0]} is for --to {target}, not for --to {options.to}")
    if options.public and not options.push:
        parser.error("--public says how to --push NAME, which is not given")
    return options


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        from gpt_classifier.checkpoints import find_checkpoint

        path = find_checkpoint(options.checkpoint, options.outputs)
        out = expect_free(options.out)
        if options.push:
            from gpt_classifier.export import push

            push.expect_account(options.push)
        from gpt_classifier.device import prepare_process
        from gpt_classifier.inference.text_classifier import TextClassifier

        prepare_process()
        import_modules(options.modules)
        classifier = TextClassifier.from_checkpoint(
            path, device="cpu", weights=options.weights, precision="32-true", verify=options.verify
        )
        write(classifier, options.to, out, of_target(options))
        print(f"{path} is now in {options.out}: {TARGETS[options.to].opened.format(out=options.out)}")
        if options.push:
            print(f"uploaded to {push.upload(out, options.push, options.public)}")


def expect_free(folder: Path) -> Path:
    """The folder to write.

    Raises:
        UserError: something is there.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--out: expected a folder that is new or empty, but {folder} is not. Name another, or remove what is "
            f"there."
        )
    return folder


def of_target(options: argparse.Namespace) -> dict[str, Any]:
    """The options that the module of a target takes."""
    if options.to == "onnx":
        return {"int8": options.int8}
    if options.to == "html" and options.examples:
        try:
            return {"examples": UnlabelledTexts(str(options.examples)).read()}
        except OptionError as error:
            error.field = "--examples"
            raise
    if options.to == "hf":
        return {"license": options.license, "name": options.push}
    return {}


def write(classifier: Any, to: str, folder: Path, options: dict[str, Any]) -> None:
    """Call the export of a target.

    Raises:
        UserError: it can't express the classifier, a library is not installed, or the folder can't be written.
    """
    target = TARGETS[to]
    try:
        importlib.import_module(f"gpt_classifier.export.{target.module}").export(classifier, folder, **options)
    except ImportError as error:
        raise UserError(
            f'--to {to} needs the extra {target.extra}: pip install -e ".[{target.extra}]" ({first_line(error)})'
        ) from error
