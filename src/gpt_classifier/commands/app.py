"""Try a fine-tuned classifier in the browser, and look at how good it is.

gpt-classifier app --checkpoint latest
gpt-classifier app --checkpoint latest --examples texts.txt --port 8080
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from gpt_classifier.commands.arguments import add_checkpoint, arguments_of, import_modules
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.errors import OptionError, first_line, missing_told
from gpt_classifier.paths import near

PORT = 8008


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("app", __doc__)
    add_checkpoint(parser)
    parser.add_argument("--examples", type=Path, metavar="FILE", help="texts to click on, one a line")
    add_address(parser)
    return parser.parse_args(arguments)


def add_address(parser: argparse.ArgumentParser) -> None:
    """`--host` and `--port`."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free one (default: {PORT})")


def needs_app() -> AbstractContextManager[None]:
    """Inside, what the extra `app` installs is imported.

    Raises:
        UserError: it is not installed.
    """
    return missing_told(
        lambda error: f'Pages in the browser need the extra app: pip install -e ".[app]" ({first_line(error)})'
    )


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        from gpt_classifier.checkpoints import find_checkpoint
        from gpt_classifier.tables.unlabelled import UnlabelledTexts

        path = find_checkpoint(options.checkpoint, options.outputs)
        examples = []
        if options.examples:
            try:
                examples = UnlabelledTexts(str(options.examples)).read()
            except OptionError as error:
                error.field = "--examples"
                raise
        with needs_app():
            from gpt_classifier.app import server
            from gpt_classifier.app.trying import Trying
        listener = server.listen(options.host, options.port)
        import_modules(options.modules)
        trying = Trying(path, examples, weights=options.weights, verify=options.verify)
        trying.open()
        if told := server.warning(options.host):
            print(told)
        print(f"{near(path)} at {server.address(listener)}, Ctrl-C ends", flush=True)
        server.serve(server.application([trying.router], options.host), listener)
