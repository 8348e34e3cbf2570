"""A person's whole session in a real browser: on a desktop and a phone, light and dark, with the keyboard alone."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from chromium import CHROMIUM, Page
from fastapi import APIRouter
from saved_classifier import saved
from sessions import Words, label, session_on, texts_of, truth

from gpt_classifier.app.label import Labelling
from gpt_classifier.app.server import address, application, listen
from gpt_classifier.app.trying import Trying
from gpt_classifier.labelling.session import Session

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

TEXTS = [*texts_of(80), "prize <img src=x onerror=document.title=1> 😀"]


@contextmanager
def served(routers: Sequence[APIRouter]) -> Iterator[str]:
    """The app in a thread of this process: its address."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application(routers, "127.0.0.1"), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield address(listener)
    finally:
        server.should_exit = True
        thread.join()


def labelled(page: Page, session: Session, key: str = "") -> None:
    """Answer the text on the page by its key, the true one unless another is given, and wait for the next one."""
    before = len(session.store.answers())
    content = page.run("$('asked').textContent")
    page.press(key or "12"[truth(content)])
    page.waited(f"!busy && shown !== null && $('asked').textContent !== {content!r}")
    assert len(session.store.answers()) == before + 1


def test_session_by_keyboard_on_a_desktop(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Words)
    session.start()
    with (
        served(Labelling(session, tmp_path / "labels.csv").routers) as place,
        Page(place, tmp_path / "profile", width=1200) as page,
    ):
        page.waited("!busy")
        assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for _ in range(35):
            labelled(page, session)
        page.waited("$('tiles').textContent.includes('accuracy') && $('ready').value === 1")
        assert "Too early to say" in page.run("$('advice').textContent")
        labelled(page, session, "Space")
        assert session.status().skipped == 1
        skipped = session.status().last[0][0]
        page.press("Backspace")
        page.waited(f"!busy && $('asked').textContent === {skipped!r}")
        assert session.status().answered == 35
        page.press("9")  # no class has it
        page.press("x")
        for button in ("skip", "csv"):  # with Tab, from wherever the focus is
            while page.run("document.activeElement.id") != button:
                page.press("Tab")
            assert page.run("document.activeElement.matches(':focus-visible')")
            page.press("Enter")
            page.waited("!busy")
        page.waited("$('done').textContent.startsWith('Written')")
        assert session.status().answered == 36
        assert (tmp_path / "labels.csv").is_file()
        assert page.complaints() == []
        assert all(request.startswith(place) for request in page.requests())
    session.close()


def test_session_by_finger_on_a_phone_at_night(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Words)
    with (
        served(Labelling(session, tmp_path / "labels.csv").routers) as place,
        Page(place, tmp_path / "profile", width=390, dark=True) as page,
    ):
        page.waited("!busy")
        assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 27)"
        for answered in range(1, 41):
            label_of = truth(page.run("$('asked').textContent"))
            page.run(f"document.querySelector('[data-label=\"{label_of}\"]').click()")
            page.waited(f"!busy && $('where').textContent.includes('{81 - answered} texts left')")
        session.prepare()
        page.waited("$('tiles').textContent.includes('accuracy')")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        sizes = page.run("[...document.querySelectorAll('[data-label]')].map(b => b.getBoundingClientRect().height)")
        assert min(sizes) >= 44
        assert all(answer.label == truth(session.texts[answer.text]) for answer in session.store.answers())
        page.run("$('undo').click()")
        page.waited("!busy && $('where').textContent.includes('42 texts left')")
    session.close()


def test_text_is_shown_as_text(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS[-1:] * 1, model=Words)
    with served(Labelling(session, tmp_path / "labels.csv").routers) as place, Page(place, tmp_path / "p") as page:
        page.waited("!busy")
        assert page.run("$('asked').textContent") == TEXTS[-1]
        page.press("2")
        page.waited("$('asked').textContent === 'All texts are answered.'")
        page.press("1")
        assert page.run("document.title") == "Label"
        assert page.complaints() == []
    assert [answer.label for answer in session.store.answers()] == [1]
    session.close()


def test_tab_that_shows_an_old_text_answers_nothing(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Words)
    with served(Labelling(session, tmp_path / "labels.csv").routers) as place, Page(place, tmp_path / "p") as page:
        page.waited("!busy")
        label(session, 1)  # in another tab
        page.press("1")
        page.waited("!$('wrong').hidden && !busy")
        assert "answered in another tab" in page.run("$('wrong').textContent")
        assert page.run("$('asked').textContent") == session.status().content
        page.press("1")  # too soon after the text was changed to be meant for it
        assert session.status().answered == 1
        page.waited("Date.now() > notBefore")
        labelled(page, session)
    session.close()


def test_page_says_when_the_process_is_gone(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Words)
    with served(Labelling(session, tmp_path / "labels.csv").routers) as place:
        page = Page(place, tmp_path / "profile")
        page.waited("!busy")
    with page:
        page.press("1")
        page.waited("!$('wrong').hidden && !busy")
        assert "can't be reached" in page.run("$('wrong').textContent")
    assert session.status().answered == 0
    session.close()


def test_text_table_and_lines_are_classified(tmp_path: Path) -> None:
    trying = Trying(saved(tmp_path), ["an example to click on"])
    lines, table = tmp_path / "lines.txt", tmp_path / "table.csv"
    lines.write_text("one\n\ntwo three\n")
    table.write_text("id,text\n1,one\n")
    with served([trying.router]) as place, Page(place, tmp_path / "profile", width=390) as page:
        page.session, session = "", page.session
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
        page.session = session
        page.run("document.querySelector('.examples button').click()")
        page.waited("!$('found').hidden")
        assert page.run("$('bars').rows.length") == 3
        assert page.run("$('coloured').textContent") == "an example to click on"
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        for field, file in (("#file", lines), ("#table", table)):
            node = page.call("DOM.querySelector", nodeId=root, selector=field)["nodeId"]
            page.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])
        page.waited("$('lines').value !== ''")
        page.run("$('classify').click()")
        page.waited("$('count').textContent.startsWith('2 texts')")
        page.run("$('send').click()")
        page.waited("$('sent').textContent.startsWith('Done: classified.csv')")
        end = time.monotonic() + 30
        while not (tmp_path / "downloads" / "classified.csv").is_file():
            assert time.monotonic() < end
            time.sleep(0.02)
        page.run("$('column').value = 'body'; $('send').click()")
        page.waited("$('sent').textContent.includes('table.csv (id, text)')")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        refused = [text for text in page.complaints() if "400" not in text]
        assert refused == []
        assert all(request.startswith((place, "blob:")) for request in page.requests())
