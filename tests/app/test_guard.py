"""Only the app's own pages reach it, not those of other sites in the same browser, whatever they call this machine."""

import socket

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from gpt_classifier.app.guard import MOST_BYTES, policy
from gpt_classifier.app.server import address, application, listen, warning
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.listening import is_loopback

BASE = "http://127.0.0.1:8008"


def client(host: str = "127.0.0.1") -> TestClient:
    router = APIRouter()

    def wrong() -> None:
        raise UserError("name: expected this, but it is that.")

    router.add_api_route("/read", lambda: "read", methods=["GET"])
    router.add_api_route("/write", lambda: "written", methods=["POST"])
    router.add_api_route("/wrong", wrong, methods=["POST"])
    return TestClient(application([router], host), base_url=BASE)  # type: ignore[arg-type]


def test_own_page_reads_and_writes() -> None:
    assert client().get("/read").json() == "read"
    assert client().post("/write", json={}, headers={"origin": BASE}).json() == "written"


@pytest.mark.parametrize(
    "origin", [None, "null", "https://example.com", "http://127.0.0.1:9999", "http://localhost:8008"]
)
def test_other_pages_write_nothing(origin: str | None) -> None:
    headers = {} if origin is None else {"origin": origin}
    assert client().post("/write", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "10.0.0.1:8008", "localhost.example.com", ""])
def test_other_names_of_this_machine_read_nothing(host: str) -> None:
    for method, headers in (("GET", {}), ("POST", {"origin": f"http://{host}"})):
        assert client().request(method, "/read", headers={"host": host, **headers}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8008", "LOCALHOST", "127.0.0.1:2222", "[::1]:8008"])
def test_loopback_has_several_names_and_a_tunnel_another_port(host: str) -> None:
    headers = {"host": host, "origin": f"http://{host}"}
    assert client().post("/write", headers=headers, json={}).status_code == 200


def test_who_listens_for_others_is_reached_by_address_but_not_by_a_foreign_name() -> None:
    for host in ("10.0.0.1:8008", f"{socket.gethostname()}:8008"):
        assert client("0.0.0.0").get("/read", headers={"host": host}).status_code == 200
    assert client("0.0.0.0").get("/read", headers={"host": "example.com"}).status_code == 421


def test_size_of_a_request_is_known_and_bounded() -> None:
    headers = {"origin": BASE}
    large = client().post("/write", content=b"x", headers={**headers, "content-length": str(MOST_BYTES + 1)})
    assert large.status_code == 413
    unknown = client().post("/write", content=iter([b"x"]), headers=headers)
    assert unknown.status_code == 411


def test_answers_may_be_embedded_by_no_other_page() -> None:
    headers = client().get("/read").headers
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in policy("<script>1</script>")
    assert client().get("/openapi.json").status_code == client().get("/docs").status_code == 404


def test_mistake_of_a_person_is_told_in_a_sentence() -> None:
    answer = client().post("/wrong", json={}, headers={"origin": BASE})
    assert answer.status_code == 400
    assert answer.json() == {"error": "name: expected this, but it is that."}


def test_port_that_is_taken_is_told() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address(taken) == f"http://127.0.0.1:{port}/"
        with pytest.raises(OptionError, match=r"--port: expected a free port of 127\.0\.0\.1"):
            listen("127.0.0.1", port)
    with pytest.raises(OptionError, match="--port"):
        listen("127.0.0.1", 70_000)


def test_listening_for_others_is_warned_of() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert warning("localhost") == ""
    assert "there is no password" in warning("0.0.0.0")


def test_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
