"""Arguments about decisions: when to answer, what mistakes cost, how frequent classes are."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_classifier.errors import printable

if TYPE_CHECKING:
    import numpy as np

    from gpt_classifier.decisions.rule import Rule
    from gpt_classifier.inference.text_predictor import TextPredictor


def add_cost(parser: argparse.ArgumentParser) -> None:
    """`--cost`."""
    what = "what a mistake costs, by true and predicted class: ham:spam=10 spam:ham=1; others cost 1"
    parser.add_argument("--cost", nargs="+", action="extend", default=[], metavar="TRUE:PREDICTED=COST", help=what)


def add_decisions(parser: argparse.ArgumentParser) -> None:
    """`--abstain` and what belongs to it, `--cost` and `--prior`."""
    what = "answer only so much that at most this part of it is wrong, such as 0.01; other labels stay blank"
    parser.add_argument("--abstain", type=float, metavar="RATE", help=what)
    what = "the probability that this is kept (default: 0.95)"
    parser.add_argument("--confidence", type=float, metavar="P", help=what)
    parser.add_argument("--by-class", action="store_true", help="promise it of each predicted class")
    what = "val (default) or test of the run, or a folder of crossfit: messages that say how much to answer"
    parser.add_argument("--chosen-on", metavar="MESSAGES", help=what)
    add_cost(parser)
    what = "how frequent classes are where the texts come from, if not as in training: spam=0.13"
    parser.add_argument("--prior", nargs="+", action="extend", default=[], metavar="CLASS=PART", help=what)


def check_decisions(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other, with the parser's exit."""
    if options.threshold and (options.abstain is not None or options.cost):
        parser.error("--threshold: it decides by itself; leave out --abstain and --cost, or --threshold")
    if options.abstain is not None and options.prior:
        what = "the messages that the promise is made on are as frequent as in training"
        parser.error(f"--abstain: nothing can be promised for other frequencies (--prior), as {what}; leave one out")
    for name in ("confidence", "by_class", "chosen_on"):
        if getattr(options, name) and options.abstain is None:
            parser.error(f"--{name.replace('_', '-')}: it belongs to --abstain, which is not given")


def decisions(
    options: argparse.Namespace, path: Path, predictor: "TextPredictor"
) -> tuple["Rule | None", Callable[[Sequence[str]], "np.ndarray"]]:
    """What decides, `None` for the most probable class, and what gives the probabilities of texts.

    Args:
        options: as `add_decisions` added them.
        path: of the checkpoint.
        predictor: opened from it.

    Raises:
        UserError: an argument does not fit the classes, or nothing can be promised.
    """
    if options.abstain is None and not options.cost and not options.prior:
        return None, predictor.predict_proba
    from gpt_classifier.crossfitting.known import Prior, known_messages, promised
    from gpt_classifier.decisions.costs import cost_matrix
    from gpt_classifier.decisions.rule import Rule
    from gpt_classifier.decisions.selective import Promise

    costs = cost_matrix(options.cost, predictor.classes) if options.cost else None
    if options.abstain is not None:
        promise = Promise(options.abstain, options.confidence or 0.95)
        known = known_messages(options.chosen_on or "val", path, predictor, costs is not None)
        rule, told = promised(known, promise, costs, options.by_class, predictor.classes)
        print(printable("\n".join(told)), file=sys.stderr)
        return rule, predictor.predict_proba
    rule_of_costs = None if costs is None else Rule(costs)
    if not options.prior:
        return rule_of_costs, predictor.predict_proba
    prior = Prior.of(options.prior, path, predictor.classes)
    return rule_of_costs, lambda texts: prior.reweighted(predictor.predict_proba(texts))
