"""Our tokenizers as transformers opens them."""

import random
from pathlib import Path

import pytest
import transformers

from gpt_classifier.errors import UserError
from gpt_classifier.export.tokenizer_files import merges_of, write_tokenizer
from gpt_classifier.tokenizers import load_tokenizer
from gpt_classifier.tokenizers.byte_level import TiktokenTokenizer, encoding_of

SPELLED = [
    "<|endoftext|>",
    " ",
    "  ",
    "\n\n",
    "\t",
    "\r\n",
    "\u00a0",
    "\u2028",
    "'s",
    "'LL",
    "don't",
    "I'm",
    "123",
    "½",
    "😀",
    "👨‍👩‍👧",
]
WORDS = [
    "the",
    "Hello",
    "naïve",
    "größer",
    "привет",
    "日本語",
    "مرحبا",
    "e\u0301",
    "ﬁ",
    "%!?",
    "...",
    "http://x.y/z?q=1",
]


def fuzzed(number: int) -> list[str]:
    """Texts of words, white space, emoji and any code points but surrogates."""
    draw = random.Random(0)

    def part() -> str:
        kind = draw.random()
        if kind < 0.4:
            return draw.choice(WORDS)
        if kind < 0.8:
            return draw.choice(SPELLED) * draw.choice([1, 1, 1, 2, 5])
        points = [draw.randrange(draw.choice([0x80, 0x250, 0x3000, 0x110000])) for _ in range(draw.randint(1, 4))]
        return "".join(map(chr, points)).encode("utf-8", "ignore").decode()

    return ["".join(part() for _ in range(draw.randint(1, 12))) for _ in range(number)]


@pytest.mark.parametrize("name", ["gpt2-nano", "gpt2"])
def test_byte_level_bpe_gives_the_same_ids(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "gpt2":
        request.getfixturevalue("gpt2_vocabulary")
    ours = load_tokenizer(name)
    write_tokenizer(ours, tmp_path, 1024, "head")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = fuzzed(10_000)
    expected = [row.tolist() for row in ours.encode(texts, 10**6, "head")[0]]
    assert theirs(texts)["input_ids"] == expected
    assert theirs.pad_token_id == ours.pad_id
    assert theirs.model_max_length == 1024
    plain = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    assert plain(texts[:500])["input_ids"] == expected[:500]


def test_long_text_is_cut_where_we_cut_it(tmp_path: Path) -> None:
    ours = load_tokenizer("gpt2-nano")
    text = "one two three four five six seven eight nine ten"
    for keep in ("head", "tail"):
        write_tokenizer(ours, tmp_path, 5, keep)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs(text, truncation=True)["input_ids"] == ours.encode([text], 5, keep)[0][0].tolist()


def test_token_that_no_merges_lead_to_is_refused() -> None:
    ranks = {bytes([value]): value for value in range(256)}
    assert merges_of({**ranks, b"ab": 256, b"abc": 257}) == [(b"a", b"b"), (b"ab", b"c")]
    with pytest.raises(UserError, match="no merges lead to the token b'xyz'"):
        merges_of({**ranks, b"xyz": 256})


def test_tokenizer_of_ones_own_is_refused(tmp_path: Path) -> None:
    class Mine(TiktokenTokenizer):
        def state(self) -> dict:
            return {"kind": "mine"}

    with pytest.raises(UserError, match="no tokenizer of the kind 'mine'"):
        write_tokenizer(Mine(encoding_of({bytes([value]): value for value in range(256)})), tmp_path, 8, "head")
