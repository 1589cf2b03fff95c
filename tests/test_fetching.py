"""One file from its address into the cache: what may go wrong, and what is then said and kept."""

import contextlib
import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from toys import PATIENCE, environment

from lthnb.data import DataError
from lthnb.datasets import fetching
from lthnb.datasets.fetching import retrieve

CONTENT = b"0 1 2 3 4 5 6 7 8\n" * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Server:
    """Answers on a port of this machine as `answer(handler)` has it; `asked` lists the requests."""

    def __init__(self, answer=None) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()  # lets those go on that hang
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                with contextlib.suppress(ConnectionError):  # the other side has lost its patience
                    (answer or send)(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()


def send(handler, content=CONTENT, code=200, length=None, **headers):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """An empty cache, no proxy, and little patience."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("LTHNB_DATA", raising=False)
    monkeypatch.setenv("LTHNB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between pooch's tries


def get(address: str) -> Path:
    where = {"source": "toy", "progress": False}
    return retrieve(f"{address}/a.txt", SHA256, "a.txt", **where)


def kept(tmp_path: Path) -> set[str]:
    """The files of the cache, the lock apart."""
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    return names - {".a.txt.lock"}


def refused(address: str, *words: str) -> None:
    """A download fails, and names file, cause and the way by hand."""
    with pytest.raises(DataError) as error:
        get(address)
    text = str(error.value)
    for word in ("source 'toy': a.txt could not be", f"get {address}/a.txt", SHA256, *words):
        assert word in text, text
    assert error.value.__cause__ is None


def test_fetched_once_and_then_without_any_request(tmp_path):
    with Server() as server:
        path = get(server.address)
        assert path == tmp_path / "cache" / "toy" / "a.txt"
        assert path.read_bytes() == CONTENT
        assert server.asked == ["/a.txt"]
    assert get(server.address) == path, "the server is gone, the file is not"
    assert kept(tmp_path) == {"a.txt"}
    path.write_bytes(b"altered")
    with Server() as server:
        assert get(server.address).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h: send(h, b"<!DOCTYPE html><title>Log in</title>"), "SHA256 hash"),
        (lambda h: send(h, code=404), "HTTPError: 404"),
        (lambda h: send(h, length=5000), "a.txt"),
        (lambda h: threading.Event().wait(PATIENCE), "Timeout"),
    ],
)
def test_another_content_or_none_is_not_kept(tmp_path, answer, words):
    with Server(answer) as server:
        refused(server.address, words)
    assert kept(tmp_path) == set()


def test_nobody_there_and_a_proxy_with_a_password(monkeypatch):
    with Server() as server:
        address = server.address
    refused(address, "ConnectionError")
    monkeypatch.setenv("http_proxy", address.replace("//", "//me:secret@"))
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(DataError) as error:
        get("http://127.0.0.2:9")
    assert "secret" not in str(error.value)


FETCH = (
    "import sys\nfrom lthnb.datasets.fetching import retrieve\n"
    "print(retrieve(sys.argv[1] + '/a.txt', sys.argv[2], 'a.txt', source='toy', "
    "progress=False))"
)


def fetching_process(address: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, address, SHA256],
        env=environment(Path()),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_two_processes_fetch_once(tmp_path):
    def answer(handler):
        server.over.wait(0.5)  # so that the other comes meanwhile
        send(handler)

    with Server(answer) as server:
        both = [fetching_process(server.address) for _ in range(2)]
        said = [process.communicate(timeout=PATIENCE)[0].strip() for process in both]
        assert said == [str(tmp_path / "cache" / "toy" / "a.txt")] * 2
        assert server.asked == ["/a.txt"]
    assert kept(tmp_path) == {"a.txt"}


def test_killed_in_the_middle():
    """What was under way is not believed; the next one fetches all."""
    begun = threading.Event()

    def answer(handler):
        if len(server.asked) > 1:
            return send(handler)
        send(handler, CONTENT * 100, length=10**6)
        handler.wfile.flush()
        begun.set()
        return server.over.wait(PATIENCE)

    with Server(answer) as server:
        process = fetching_process(server.address)
        assert begun.wait(PATIENCE)
        process.kill()
        process.wait()
        assert get(server.address).read_bytes() == CONTENT
