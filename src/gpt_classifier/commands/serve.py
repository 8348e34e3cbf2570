"""Answer requests over HTTP with a fine-tuned classifier, until it is asked to end.

gpt-classifier serve --checkpoint latest
gpt-classifier serve --checkpoint spam --host 0.0.0.0 --port 8080 --workers 4
curl -d '{"text": "Are we still on for lunch?"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/predict
"""

import argparse
import os
import sys
from functools import partial

from gpt_classifier.commands.arguments import add_checkpoint, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.listening import is_loopback
from gpt_classifier.serving.settings import API_KEY, Limits, Settings

LIMITS = {
    "max_body": "bytes of a request's body",
    "max_texts": "texts of a request",
    "max_characters": "characters of all texts of a request",
    "max_tokens": "tokens that the model reads of all texts of a request",
    "max_waiting": "texts that each worker takes before it has answered them",
    "timeout": "seconds for a body to come, and for an answer",
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("serve", __doc__)
    add_checkpoint(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="to listen at; 0 for one that is free (default: 8000)")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with the model (default: 1)")
    parser.add_argument(
        "--precision",
        choices=("auto", "32-true", "bf16-mixed"),
        default="auto",
        help="auto: bfloat16 products where the hardware multiplies it natively (default)",
    )
    for name, what in LIMITS.items():
        default = getattr(Limits, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{what} (default: {default:,})"
        )
    parser.add_argument("--log-texts", action="store_true", help="write the texts of requests into the log")
    parser.epilog = f"{API_KEY} in the environment: requests must have it as Authorization: Bearer KEY."
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    with readable_exit():
        settings = settings_of(options)
        try:
            from gpt_classifier.serving.supervisor import serve
        except ImportError as error:
            raise UserError(f'serve needs the extra serve: pip install -e ".[serve]" ({first_line(error)})') from error
        if not settings.api_key and not is_loopback(options.host):
            print(f"Whoever reaches {options.host} can ask: {API_KEY} is not set.", file=sys.stderr)
        if not serve(settings, options.host, options.port):
            raise SystemExit(1)


def settings_of(options: argparse.Namespace) -> Settings:
    """What the arguments say.

    Raises:
        UserError: there is no such checkpoint, or a number is out of its range.
    """
    from gpt_classifier.checkpoints import find_checkpoint

    try:
        limits = Limits(**{name: getattr(options, name) for name in LIMITS})
        return Settings(
            checkpoint=options.checkpoint,
            path=find_checkpoint(options.checkpoint, options.outputs),
            outputs=options.outputs,
            weights=options.weights,
            verify=options.verify,
            precision=options.precision,
            prepare=partial(import_modules, tuple(options.modules)),
            limits=limits,
            workers=options.workers,
            log_texts=options.log_texts,
            api_key=os.environ.get(API_KEY, ""),
        )
    except OptionError as error:
        if error.field != API_KEY:
            error.field = f"--{error.field.replace('_', '-')}"
        raise
