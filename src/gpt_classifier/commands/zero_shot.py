"""Ask a language model, without any fine-tuning, whether each test message is spam: the baseline to beat.

gpt-classifier zero-shot --model gpt2-small
gpt-classifier zero-shot --model gpt2-nano data=sample_sms
"""

import argparse

from gpt_classifier.commands.arguments import add_model, add_overrides, arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError, expect_number, option_group


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("zero-shot", __doc__)
    add_model(parser)
    parser.add_argument("--positive-class", default="spam", help="the class to ask for (default: spam)")
    parser.add_argument("--show", type=int, default=5, help="number of continuations to print (default: 5)")
    parser.add_argument("--seed", type=int, default=123, help="of random weights (default: 123)")
    add_overrides(parser, "Hydra overrides, such as data=sample_sms")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        expect_number("--seed", options.seed, 0, 2**32 - 1, whole=True)
        expect_number("--show", options.show, 0, whole=True)
        cfg = compose([f"model={options.model}", *options.overrides], config_dir=options.config_dir)
        from gpt_classifier.book.zero_shot import ask
        from gpt_classifier.commands.language_model import load_language_model
        from gpt_classifier.device import prepare_process
        from gpt_classifier.training.build import load_data

        prepare_process()
        data = load_data(cfg)
        if options.positive_class not in data.class_names:
            raise UserError(
                f"--positive-class: the data has no class {options.positive_class!r}; it has: "
                f"{', '.join(data.class_names)}. Set --positive-class to one of these."
            )
        language_model = load_language_model(cfg.model, options.seed)
        test = data.split_frame("test")
        with option_group("model.backbone"):
            answers = ask(language_model, test["text"].tolist(), options.positive_class)
        truth = (test["label"] == options.positive_class).tolist()
        report(answers, truth, test["text"].tolist(), options, data.report.note)


def report(answers: list, truth: list[bool], texts: list[str], options: argparse.Namespace, note: str) -> None:
    for text, answer in list(zip(texts, answers, strict=True))[: options.show]:
        print(f"{text[:100]!r}\n    continues {answer.continuation!r}")
    total, positives = len(truth), sum(truth)
    literal = [answer.literal for answer in answers]
    print(f"\n{options.model}, not fine-tuned, {total} test messages, {positives} of them {options.positive_class}")
    print(f"literal answer           {accuracy(literal, truth)}; {literal.count(None)} answered neither yes nor no")
    print(f'" yes" against " no"     {accuracy([answer.yes_margin > 0 for answer in answers], truth)}')
    print(f"always the larger class  {max(positives, total - positives) / total:7.2%} accuracy")
    if note:
        print(note)


def accuracy(said: list, truth: list[bool]) -> str:
    right = sum(answer == expected for answer, expected in zip(said, truth, strict=True))
    return f"{right / len(truth):7.2%} accuracy, {said.count(True)} times yes"
