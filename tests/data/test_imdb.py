"""Stanford's film reviews: read from the archive once, from a server that is not always whole, or refused."""

import gzip
import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from gpt_classifier import web
from gpt_classifier.config import compose, instantiate
from gpt_classifier.data.sources import Imdb, imdb
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.evaluation.messages import run_splits
from gpt_classifier.tables import review_archive
from gpt_classifier.training.build import load_data
from gpt_classifier.training.run import keep_inputs

EACH = 20  # reviews of each class in each split, instead of 12,500


def review(split: str, label: str, number: int) -> str:
    return f"A {label} review.<br /><br />It is number {number} of {split}, naïve as it may be."


def name_of(split: str, label: str, number: int) -> str:
    stars = (7 if label == "pos" else 1) + number % 4
    return f"aclImdb/{split}/{label}/{number}_{stars}.txt"


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    return info, content


def archive(*further: tuple[tarfile.TarInfo, bytes], left_out: str = "") -> bytes:
    """The layout of the published archive, with members beside the reviews."""
    members = [member("aclImdb/README", b"about"), member("aclImdb/train/unsup/0_0.txt", b"no label")]
    for split in ("train", "test"):
        members.append(member(f"aclImdb/{split}/pos/", b"", tarfile.DIRTYPE))
        for label in ("pos", "neg"):
            names = {name_of(split, label, number): number for number in range(EACH)}
            members += [
                member(name, review(split, label, number).encode())
                for name, number in names.items()
                if name != left_out
            ]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in [*members, *further]:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = archive()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_archive, "EACH", EACH)


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., Imdb]:
    """A source of a local archive: `local(content, labels="rating")`."""

    def make(content: bytes = ARCHIVE, **options: object) -> Imdb:
        path = tmp_path / "copy.tar.gz"
        path.write_bytes(content)
        return Imdb(str(path), str(tmp_path / "cache"), [], "0" * 64, **options)  # type: ignore[arg-type]

    return make


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_reviews_have_their_text_label_rating_and_split(local: Callable[..., Imdb]) -> None:
    messages = local().load()
    frame = messages.frame
    assert messages.class_names == ["neg", "pos"]
    assert frame.groupby(["label", frame["split"].fillna("")]).size().tolist() == [EACH] * 4
    first = frame.iloc[0]  # as the book's bonus reads them: test first, positive ones first, by file name
    assert (first["split"], first["label"], first["text"]) == ("test", "pos", review("test", "pos", 0))
    assert frame["extra.id"].tolist()[:3] == [0, 10, 11]
    assert frame["extra.rating"].tolist()[:3] == [7, 9, 10]
    assert frame["row"].tolist() == list(range(4 * EACH))


def test_without_the_official_split_all_are_to_be_split(local: Callable[..., Imdb]) -> None:
    assert local(official_split=False).load().frame["split"].isna().all()


def test_classes_may_be_the_stars(local: Callable[..., Imdb]) -> None:
    messages = local(labels="rating").load()
    assert messages.class_names == ["1", "2", "3", "4", "7", "8", "9", "10"]
    assert messages.whole_numbers
    assert messages.frame["label"].tolist() == messages.frame["extra.rating"].astype(str).tolist()


@pytest.mark.parametrize(("line_breaks", "between"), [("raw", "<br /><br />"), ("space", " "), ("newline", "\n")])
def test_line_breaks_are_as_published_or_replaced(local: Callable[..., Imdb], line_breaks: str, between: str) -> None:
    assert local(line_breaks=line_breaks).load().frame["text"][0].startswith(f"A pos review.{between}It is")


@pytest.mark.parametrize(
    "damaged", [lambda content: content[:100], lambda content: content[:4] + bytes(2000) + content[2004:]]
)
def test_archive_is_read_once_and_again_where_its_file_is_damaged(
    local: Callable[..., Imdb],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damaged: Callable[[bytes], bytes],
) -> None:
    source = local()
    before = source.load().frame
    (kept,) = (tmp_path / "cache").rglob("*.parquet")
    kept.write_bytes(damaged(kept.read_bytes()))
    pd.testing.assert_frame_equal(source.load().frame, before)
    monkeypatch.delattr(review_archive, "read_archive")
    pd.testing.assert_frame_equal(source.load().frame, before)


BIG = member("aclImdb/train/pos/7_7.txt", b"x" * (2**20 + 1))
HOSTILE = {
    "a member that leads elsewhere": (archive(member("aclImdb/train/pos/../../../evil", b"x")), None),
    "a link in place of a review": (
        archive(member("aclImdb/train/pos/77_7.txt", b"", tarfile.SYMTYPE)),
        r"pos/77_7.txt in it is no file",
    ),
    "a huge review": (archive(BIG), "7_7.txt in it is no file of 1 to 1,048,576 bytes"),
    "an empty review": (archive(member("aclImdb/train/pos/77_7.txt", b"")), "77_7.txt in it is no file"),
    "bytes that are no text": (archive(member("aclImdb/train/pos/77_7.txt", b"\xff")), "can't decode"),
    "a review too many": (archive(member("aclImdb/train/pos/77_7.txt", b"x")), r"train/pos 21, train/neg 20"),
    "a review too few": (archive(left_out=name_of("test", "neg", 3)), r"test/pos 20, test/neg 19"),
    "half of the archive": (ARCHIVE[: len(ARCHIVE) // 2], "ended|unexpected end"),
    "no archive": (b"text,label\n", "gzip"),
    "no tar file": (gzip.compress(b"text,label\n"), "header|end of file|bad"),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_whole_archive_is_refused_and_nothing_is_unpacked(
    local: Callable[..., Imdb], tmp_path: Path, content: bytes, reason: str | None
) -> None:
    source = local(content)
    if reason is None:
        assert len(source.load().frame) == 4 * EACH
        return
    with pytest.raises(OptionError, match=reason) as error:
        source.prepare()
    assert str(tmp_path / "copy.tar.gz") in str(error.value)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == ["copy.tar.gz"]


def test_archive_that_unpacks_without_end_is_left_at_the_limit(
    local: Callable[..., Imdb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_archive, "ARCHIVE_BYTES", 2**20)
    with pytest.raises(OptionError, match="more than 1,048,576 bytes"):
        local(archive(member("aclImdb/imdb.vocab", bytes(2**21)))).load()


def test_missing_copy_and_wrong_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"path: expected Stanford's archive aclImdb_v1.tar.gz.*No such file"):
        Imdb(str(tmp_path / "none.tar.gz"), str(tmp_path), [], "0").prepare()
    for option, value in {"labels": "stars", "line_breaks": "tab", "official_split": "yes"}.items():
        with pytest.raises(OptionError, match=f"{option}: expected"):
            Imdb(None, str(tmp_path), [], "0", **{option: value})  # type: ignore[arg-type]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the archive, parts of it too; `/broken` breaks off after a third, `/stalled` waits there."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.path, asked))  # type: ignore[attr-defined]
        body = ARCHIVE if self.path != "/other" else ARCHIVE + b"more"
        start = int(re.sub(r"\D", "", asked) or 0) if self.path != "/whole-only" else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        third = len(body) // 3 + 1
        self.wfile.write(body[start : start + third] if self.path in ("/broken", "/stalled") else body[start:])
        self.wfile.flush()
        if self.path == "/stalled":
            self.server.closing.wait(3)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setattr(web, "READ_TIMEOUT", 0.2)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []  # type: ignore[attr-defined]
        server.closing = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing.set()  # type: ignore[attr-defined]
        server.shutdown()


@pytest.fixture
def remote(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> Callable[..., Imdb]:
    def make(*names: str) -> Imdb:
        urls = [f"http://127.0.0.1:{server.server_port}/{name}" for name in names]
        return Imdb(None, str(tmp_path / "cache"), urls, hashlib.sha256(ARCHIVE).hexdigest())

    return make


def ranges(server: http.server.ThreadingHTTPServer) -> list[str]:
    return [asked for _, asked in server.requests]  # type: ignore[attr-defined]


def test_download_leaves_one_file_of_reviews_and_is_done_once(
    remote: Callable[..., Imdb], server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    assert len(remote("good").load().frame) == 4 * EACH
    assert files(tmp_path / "cache") == [f"reviews-{hashlib.sha256(ARCHIVE).hexdigest()[:12]}.parquet"]
    remote("good").load()
    assert ranges(server) == [""]


@pytest.mark.parametrize("name", ["broken", "stalled"])
def test_download_that_breaks_off_goes_on_where_it_was(
    remote: Callable[..., Imdb], server: http.server.ThreadingHTTPServer, name: str
) -> None:
    assert len(remote(name).load().frame) == 4 * EACH
    third = len(ARCHIVE) // 3 + 1
    assert ranges(server) == ["", f"bytes={third}-", f"bytes={2 * third}-"]


def test_next_command_goes_on_where_the_last_one_broke_off(
    remote: Callable[..., Imdb],
    server: http.server.ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web, "TRIES", 1)
    with pytest.raises(OptionError, match=r"path: expected .* broke off.*are kept: the next try goes on from there"):
        remote("broken").prepare()
    assert files(tmp_path / "cache") == ["aclImdb_v1.tar.gz.part"]
    assert len(remote("good").load().frame) == 4 * EACH
    assert ranges(server) == ["", f"bytes={len(ARCHIVE) // 3 + 1}-"]
    assert len(files(tmp_path / "cache")) == 1


def test_server_that_knows_no_parts_sends_everything(
    remote: Callable[..., Imdb], tmp_path: Path, server: http.server.ThreadingHTTPServer
) -> None:
    (tmp_path / "cache" / "imdb").mkdir(parents=True)
    (tmp_path / "cache" / "imdb" / "aclImdb_v1.tar.gz.part").write_bytes(ARCHIVE[:100])
    assert len(remote("whole-only").load().frame) == 4 * EACH
    assert ranges(server) == ["bytes=100-"]


@pytest.mark.parametrize("left", [b"of another file", ARCHIVE + b"more"])
def test_part_of_another_file_is_thrown_away(remote: Callable[..., Imdb], tmp_path: Path, left: bytes) -> None:
    (tmp_path / "cache" / "imdb").mkdir(parents=True)
    (tmp_path / "cache" / "imdb" / "aclImdb_v1.tar.gz.part").write_bytes(left)
    assert len(remote("good").load().frame) == 4 * EACH


def test_other_archive_is_refused_and_the_next_place_serves(remote: Callable[..., Imdb], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"/other: expected aclImdb_v1.tar.gz with sha256.*Set path= to a copy"):
        remote("other").prepare()
    assert files(tmp_path / "cache") == []
    assert len(remote("other", "good").load().frame) == 4 * EACH


def test_cache_that_can_not_be_written_names_its_option(
    server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for data, folder in (("imdb", "imdb"), ("sms_spam", "sms_spam")):
        with pytest.raises(UserError) as caught:
            load_data(compose([f"data={data}", "model=gpt2-nano", f"cache_dir={tmp_path}/file"]))
        told = f"cache_dir: expected a folder that can be written, but {tmp_path}/file/{folder} can't: "
        assert told in str(caught.value)
        assert "Set cache_dir to another, or the environment variable GPT_CLASSIFIER_CACHE." in str(caught.value)
    assert ranges(server) == []


def test_missing_extra_is_told_before_anything_is_downloaded(
    remote: Callable[..., Imdb], server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imdb.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[parquet\]"'):
        remote("good").prepare()
    assert ranges(server) == []


def test_split_of_the_third_bonus_is_its_scripts(tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(ARCHIVE)
    given = [f"data.path={tmp_path}/copy.tar.gz", "model=gpt2-nano"]
    data = load_data(compose(["experiment=imdb/08_logistic_regression", *given]))
    rows = [  # as the script reads the folders and shuffles, twice
        review(split, label, number)
        for split in ("test", "train")
        for label in ("pos", "neg")
        for number in sorted(range(EACH), key=lambda number: name_of(split, label, number))
    ]
    frame = pd.DataFrame({"text": rows})
    for _ in range(2):
        frame = frame.sample(frac=1, random_state=123).reset_index(drop=True)
    for split, (start, end) in {"train": (0, 56), "val": (56, 64), "test": (64, 80)}.items():
        assert data.split_frame(split)["text"].tolist() == frame["text"][start:end].tolist()


def test_texts_of_a_run_are_read_from_the_archive_again(tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(ARCHIVE)
    cfg = compose(["model=gpt2-nano", "data=imdb", f"data.path={tmp_path}/copy.tar.gz", "data.keep_texts=false"])
    data = load_data(cfg)
    kept = OmegaConf.create({"data": cfg.data, "model": cfg.model, "recipe": cfg.recipe, "seed": 1})
    keep_inputs(kept, tmp_path / "run", data)
    frame = run_splits(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert frame is not None
    for split, number in {"train": 36, "val": 4, "test": 40}.items():
        assert frame.loc[frame["split"] == split, "text"].tolist() == data.split_frame(split)["text"].tolist()
        assert (frame["split"] == split).sum() == number


def test_configuration_names_the_published_archive(tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(ARCHIVE)
    given = [f"data.path={tmp_path}/copy.tar.gz", "data.official_split=false", "data.labels=rating"]
    cfg = compose(["data=imdb", *given, "data.line_breaks=space", f"cache_dir={tmp_path}"])
    assert re.fullmatch("[0-9a-f]{64}", cfg.data.source.sha256)
    messages = instantiate(cfg.data.source).load()
    assert len(messages.class_names) == 8
    assert messages.frame["split"].isna().all()
    assert not messages.frame["text"].str.contains("<br").any()
