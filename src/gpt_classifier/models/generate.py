"""Next-token sampling and scoring: what shows that a backbone is the pretrained one."""

import math

import torch
from torch import Tensor

from gpt_classifier.models.gpt import GPT


@torch.inference_mode()
def generate(
    model: GPT,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    stop_id: int | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue each prompt.

    Args:
        model: a GPT in eval mode.
        prompts: token ids, at least one each; they may differ in length.
        max_new_tokens: longest continuation in tokens. A context that outgrows the model's is cut at the front.
        temperature: 0 takes the likeliest token; above 0, logits are divided by it and sampled from.
        top_k: sample among the `top_k` likeliest tokens only; `None` for all.
        stop_id: a token that ends a continuation and is not part of it.
        generator: source of randomness, on the CPU, for repeatable samples.

    Returns:
        For each prompt the ids that follow it, without the prompt.
    """
    device = model.wte.weight.device
    rows = [list(prompt) for prompt in prompts]
    finished = [False] * len(rows)
    for _ in range(max_new_tokens):
        contexts = [row[-model.config.n_positions :] for row in rows]
        logits = model.next_token_logits(_last_hidden(model, contexts, device)).float().cpu()  # (B, V)
        chosen = _choose(logits, temperature, top_k, generator)
        for i, token in enumerate(chosen.tolist()):
            finished[i] = finished[i] or token == stop_id
            if not finished[i]:
                rows[i].append(token)
        if all(finished):
            break
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts, strict=True)]


def _last_hidden(model: GPT, contexts: list[list[int]], device: torch.device) -> Tensor:
    lengths = torch.tensor([len(context) for context in contexts], device=device)
    hidden = model.hidden(_right_padded(contexts).to(device))  # (B, T, D)
    return hidden[torch.arange(len(contexts), device=device), lengths - 1]  # (B, D)


def _right_padded(rows: list[list[int]]) -> Tensor:
    # 0 is a valid id of every vocabulary, and no real token looks at padding
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _choose(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k is not None:
        least_kept = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least_kept, -math.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)


@torch.inference_mode()
def log_probability(model: GPT, prompts: list[list[int]], continuations: list[list[int]]) -> Tensor:
    """Natural log of the probability of each continuation after its prompt.

    Args:
        model: a GPT in eval mode.
        prompts: B lists of at least one id.
        continuations: B lists of ids; prompt and continuation fit the model's context together.

    Returns:
        `(B,)` float32, summed over the continuation's tokens; 0 for an empty continuation.
    """
    rows = [prompt + continuation for prompt, continuation in zip(prompts, continuations, strict=True)]
    ids = _right_padded(rows).to(model.wte.weight.device)
    hidden = model.hidden(ids)  # (B, T, D)
    scores = []
    for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        start, end = len(prompt), len(row)
        logits = model.next_token_logits(hidden[i, start - 1 : end - 1]).float()  # (continuation, V)
        scores.append(logits.log_softmax(dim=-1).gather(1, ids[i, start:end, None]).sum())
    return torch.stack(scores).cpu()


def perplexity(model: GPT, ids: list[int]) -> float:
    """exp of the mean negative log-likelihood of `ids[1:]` given what precedes each; NaN for fewer than two."""
    if len(ids) < 2:
        return math.nan
    return math.exp(-log_probability(model, [ids[:1]], [ids[1:]]).item() / (len(ids) - 1))
