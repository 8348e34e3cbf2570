"""Sampling and scoring."""

import math

import pytest
import torch

from gpt_classifier.models.generate import generate, log_probability, perplexity
from gpt_classifier.models.gpt import GPT, GPTConfig


@pytest.fixture
def model() -> GPT:
    model = GPT(GPTConfig(vocab_size=30, n_positions=12, n_embd=24, n_layer=2, n_head=4)).initialise()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def step_by_step(model: GPT, prompt: list[int], n: int) -> list[int]:
    row = list(prompt)
    for _ in range(n):
        hidden = model.hidden(torch.tensor([row[-12:]]))
        row.append(int(model.next_token_logits(hidden[0, -1]).argmax()))
    return row[len(prompt) :]


def test_greedy_continuation_does_not_depend_on_the_rest_of_the_batch(model: GPT) -> None:
    prompts = [[1], [4, 9, 2, 7], [5, 5]]
    with torch.no_grad():
        expected = [step_by_step(model, prompt, 6) for prompt in prompts]
    assert generate(model, prompts, 6) == expected


def test_continuation_may_outgrow_the_context(model: GPT) -> None:
    with torch.no_grad():
        expected = step_by_step(model, [3, 1], 20)
    assert generate(model, [[3, 1]], 20)[0] == expected


def test_stop_token_ends_a_continuation(model: GPT) -> None:
    whole = generate(model, [[2, 8]], 8)[0]
    assert generate(model, [[2, 8]], 8, stop_id=whole[3])[0] == whole[: whole.index(whole[3])]


def test_sampling_repeats_with_the_same_seed_and_stays_among_the_top_k(model: GPT) -> None:
    def sample(seed: int, top_k: int | None) -> list[int]:
        return generate(model, [[4]], 8, 1.5, top_k, generator=torch.Generator().manual_seed(seed))[0]

    assert sample(1, None) == sample(1, None)
    assert len({tuple(sample(seed, None)) for seed in range(5)}) > 1
    assert sample(3, 1) == generate(model, [[4]], 8)[0]


def test_perplexity_and_log_probability_are_those_of_the_chain_rule(model: GPT) -> None:
    ids = [3, 17, 8, 8, 21]
    with torch.no_grad():
        log_probabilities = model.next_token_logits(model.hidden(torch.tensor([ids])))[0].log_softmax(dim=-1)
    steps = [log_probabilities[i, ids[i + 1]].item() for i in range(4)]
    assert perplexity(model, ids) == pytest.approx(math.exp(-sum(steps) / 4), rel=1e-5)
    together = log_probability(model, [ids[:2], [1]], [ids[2:], [2, 3, 4, 5, 6]])
    assert together[0].item() == pytest.approx(sum(steps[1:]), rel=1e-5)
    assert math.isnan(perplexity(model, [3]))
