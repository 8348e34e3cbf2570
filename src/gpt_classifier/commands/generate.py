"""Continue a text with a language model, and tell how surprised it is by the text (perplexity).

gpt-classifier generate --model gpt2-small --prompt 'Every effort moves you'
"""

import argparse

from gpt_classifier.commands.arguments import add_model, add_overrides, arguments_of
from gpt_classifier.commands.exit import readable_exit
from gpt_classifier.config import compose
from gpt_classifier.errors import UserError, expect_number


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = arguments_of("generate", __doc__)
    add_model(parser)
    parser.add_argument("--prompt", required=True, help="the text to continue")
    parser.add_argument("--max-new-tokens", type=int, default=25, help="default: 25")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default, takes the likeliest token")
    parser.add_argument("--top-k", type=int, help="sample among the k likeliest tokens only")
    parser.add_argument("--seed", type=int, default=123, help="of sampling, and of random weights (default: 123)")
    add_overrides(parser, "Hydra overrides, such as model.weights=PATH")
    return parser.parse_intermixed_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    with readable_exit():
        options = parse(arguments)
        if not options.prompt:
            raise UserError("--prompt: expected at least one character to continue, but it is empty.")
        expect_number("--temperature", options.temperature, 0, 1e3)
        expect_number("--max-new-tokens", options.max_new_tokens, 1, whole=True)
        expect_number("--seed", options.seed, 0, 2**32 - 1, whole=True)
        if options.top_k is not None:
            expect_number("--top-k", options.top_k, 1, whole=True)
            if options.temperature == 0:
                raise UserError("--top-k: only sampling can use it. Set --temperature above 0 too.")
        cfg = compose([f"model={options.model}", *options.overrides], config_dir=options.config_dir)
        import torch

        from gpt_classifier.commands.language_model import load_language_model
        from gpt_classifier.device import prepare_process
        from gpt_classifier.models.generate import generate, perplexity
        from gpt_classifier.tokenizers.byte_level import token_ids

        prepare_process()
        language_model = load_language_model(cfg.model, options.seed)
        ids = token_ids([options.prompt], language_model.encoding)[0]
        continuation = generate(
            language_model.model,
            [ids],
            options.max_new_tokens,
            options.temperature,
            options.top_k,
            stop_id=language_model.encoding.eot_token,
            generator=torch.Generator().manual_seed(options.seed),
        )[0]
        print(options.prompt + language_model.decode(continuation))
        read = ids[-language_model.model.config.n_positions :]
        cut = "" if len(read) == len(ids) else f", the last of {len(ids)}"
        print(f"\nperplexity of the prompt: {perplexity(language_model.model, read):.2f} ({len(read)} tokens{cut})")
