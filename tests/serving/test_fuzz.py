"""Hundreds of broken requests: each is refused in order, and none harms another."""

import json
import random
from pathlib import Path

from services import KEY, service

VALUES = (None, True, -1, 1.5, 10**400, "", " ", "a", "\ud800", "\x00", "é" * 70, [], ["a"], [["a"]], {}, {"text": "a"})
KEYS = ("text", "texts", "top", "Text", "", "\ud800", "text\x00")
PIECES = (
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"\\u",
    b"\xff",
    b"\x00",
    b"1e999",
    b"NaN",
    b'"text"',
    b'"texts"',
    b"a",
)


def broken(chance: random.Random) -> bytes:
    """A body that is hardly ever right."""
    kind = chance.randrange(5)
    if kind == 0:
        return b"".join(chance.choices(PIECES, k=chance.randrange(12)))
    if kind == 1:
        depth = chance.choice((10, 1000, 50_000))
        return chance.choice((b"[", b'{"text":', b'{"texts":[')) * depth
    if kind == 2:
        return chance.randbytes(chance.randrange(200))
    said = json.dumps({chance.choice(KEYS): chance.choice(VALUES) for _ in range(chance.randrange(4))})
    if kind == 3:
        return said[: chance.randrange(len(said) + 1)].encode()
    return said.encode()


def test_broken_requests_are_refused_and_right_ones_are_answered_between_them(tmp_path: Path) -> None:
    chance = random.Random(0)
    counted: dict[int, int] = {}
    with service(tmp_path / "spam", api_key=KEY, max_body=2_000, max_characters=60) as client:
        for i in range(400):
            headers = {"Content-Type": chance.choice(("application/json",) * 4 + ("text/plain", "application/x", "é"))}
            if chance.random() < 0.9:
                headers["Authorization"] = f"Bearer {KEY}"
            sent = {name: value.encode() for name, value in headers.items()}
            answer = client.post("/predict", content=broken(chance), headers=sent)
            counted[answer.status_code] = counted.get(answer.status_code, 0) + 1
            assert answer.status_code in (200, 400, 401, 413, 422)
            assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
            if i % 40 == 0:
                right = {"Authorization": f"Bearer {KEY}"}
                assert client.post("/predict", json={"text": "a"}, headers=right).status_code == 200
    assert set(counted) >= {401, 413, 422}
