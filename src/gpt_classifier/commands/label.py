"""Label texts in the browser while a classifier learns, and train it.

gpt-classifier label --texts texts.txt --classes ham,spam --out labels.csv
gpt-classifier label --texts reviews.csv --text-column body --classes good,bad --out labels.csv --labels some.csv

Each answer is on disk (labels.sqlite) before the next text is shown; the same command goes on where it was left.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_classifier.commands.app import add_address, needs_app
from gpt_classifier.commands.arguments import add_overrides, arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import OptionError
from gpt_classifier.paths import near

if TYPE_CHECKING:  # with pandas
    from gpt_classifier.labelling.collection import Collection
    from gpt_classifier.labelling.session import Session
    from gpt_classifier.labelling.store import Store

READING = ("model.", "pooling", "data.max_length", "data.truncate")
"""Beginnings of overrides that say how a text is read, not only how a classifier is trained."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("label", __doc__)
    parser.add_argument(
        "--texts", required=True, help=".txt with a text a line, .csv, .tsv, .json, .jsonl, .parquet or .xlsx"
    )
    parser.add_argument("--text-column", default="text", help="column with the texts (default: text)")
    parser.add_argument("--classes", required=True, help="names, such as ham,spam; keys 1, 2, … choose them")
    parser.add_argument("--out", type=Path, required=True, help="the table of labels to write, ending in .csv")
    parser.add_argument(
        "--labels", type=Path, help="a table with the columns text and label: labels that are there already"
    )
    parser.add_argument("--model", default="gpt2-nano", help="a file of conf/model (default: gpt2-nano)")
    add_address(parser)
    add_overrides(parser, "further Hydra overrides of train, such as freeze=head_only")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        collection, classes, out, given = read(options)
        with needs_app():
            from gpt_classifier.app import server
            from gpt_classifier.app.label import Labelling
        from gpt_classifier.labelling.results import store_path, test_path, write_labels
        from gpt_classifier.labelling.store import Store

        listener = server.listen(options.host, options.port)
        store = Store(store_path(out), classes, collection.sha256)
        store.give(given)
        session = session_on(collection, classes, store, options)
        labelling = Labelling(session, out, [f"model={options.model}", *options.overrides])
        session.start()
        repeated = collection.found - len(collection.texts)
        print(f"{len(collection.texts):,} texts" + (f", {repeated:,} near-duplicates left out" if repeated else ""))
        if told := server.warning(options.host):
            print(told)
        print(f"label at {server.address(listener)}, Ctrl-C ends; the answers are in {near(store.path)}", flush=True)
        try:
            server.serve(server.application(labelling.routers, options.host), listener)
        finally:
            labelling.close()
            session.close()
        write_labels(session, out)
        trained, measured = len(session.training()), len(session.random_share())
        print(f"{trained} labels to learn from are in {near(out)}, {measured} to measure on in {near(test_path(out))}")


def read(options: argparse.Namespace) -> "tuple[Collection, list[str], Path, dict[str, int]]":
    """Texts, class names, the table to write, and labels that are there already.

    Raises:
        UserError: one of them is not as expected.
    """
    from gpt_classifier.labelling.collection import Collection, class_names, known_labels
    from gpt_classifier.labelling.results import expect_csv
    from gpt_classifier.tables.unlabelled import UnlabelledTexts

    try:
        classes, out = class_names(options.classes), expect_csv(options.out)
        given = known_labels(options.labels, classes) if options.labels else {}
    except OptionError as error:
        error.field = f"--{error.field}"
        raise
    try:
        collection = Collection.read(UnlabelledTexts(options.texts, options.text_column))
    except OptionError as error:
        error.field = {"text_column": "--text-column"}.get(error.field, "--texts")
        raise
    return collection, classes, out, given


def session_on(collection: "Collection", classes: list[str], store: "Store", options: argparse.Namespace) -> "Session":
    """A session whose classifier reads texts as `train` will.

    Raises:
        UserError: an override that does not fit.
    """
    from gpt_classifier.device import prepare_process  # with torch: after all that can be told at once
    from gpt_classifier.inference.fitting import configure
    from gpt_classifier.inference.text_classifier import TextClassifier
    from gpt_classifier.labelling.linear import LinearModel
    from gpt_classifier.labelling.session import Session

    prepare_process()
    reading = [override for override in options.overrides if override.startswith(READING)]
    params = TextClassifier(model=options.model, freeze="head_only", overrides=reading).get_params()
    configure(params)
    return Session(collection, classes, store, lambda texts, names: LinearModel(params, texts, names))
