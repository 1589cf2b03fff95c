"""One file from its address into the cache: what may go wrong, and what is then said and kept."""

import contextlib
import errno
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from toys import PATIENCE, environment

from lthnb import fetching
from lthnb.data import DataError
from lthnb.fetching import file_sha256, retrieve

pytest.importorskip("pooch")

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
    monkeypatch.setattr(fetching, "PAUSES", (0.01, 0.01))


def get(address: str, **more) -> Path:
    return retrieve(f"{address}/a.txt", SHA256, "a.txt", source="toy", progress=False, **more)


def kept(tmp_path: Path) -> set[str]:
    """The files of the cache, the lock apart."""
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    return names - {".a.txt.lock"}


def refused(address: str, *words: str, **more) -> str:
    """The message of a download that fails: it names file, address and the way by hand."""
    with pytest.raises(DataError) as error:
        get(address, **more)
    text = str(error.value)
    by_hand = "put it at $LTHNB_DATA/toy/a.txt (LTHNB_DATA names a folder of yours)."
    for word in ("source 'toy': a.txt could not be", f"{address}/a.txt", SHA256, by_hand, *words):
        assert word in text, text
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return text


def test_fetched_once_and_then_without_any_request(tmp_path):
    with Server() as server:
        path = get(server.address)
        assert path == tmp_path / "cache" / "toy" / "a.txt"
        assert path.read_bytes() == CONTENT
        assert server.asked == ["/a.txt"]
    assert get(server.address) == path, "the server is gone, the file is not"
    assert kept(tmp_path) == {"a.txt"}
    assert file_sha256(path) == SHA256


def test_in_the_cache_a_file_needs_no_pooch(monkeypatch):
    with Server() as server:
        path = get(server.address)
        monkeypatch.setitem(sys.modules, "pooch", None)
        assert get(server.address) == path
        path.unlink()
        with pytest.raises(DataError, match=r"a\.txt is not at hand.*pip install pooch.*By hand"):
            get(server.address)
        assert len(server.asked) == 1


def test_an_altered_file_is_fetched_again():
    with Server() as server:
        get(server.address).write_bytes(b"0 1\n")
        assert get(server.address).read_bytes() == CONTENT
    get(server.address).write_bytes(b"0 1\n")
    refused(server.address, "the connection failed (Connection refused)", "tried 3 times")


def test_the_folder_of_data_is_named_where_it_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv("LTHNB_DATA", str(tmp_path / "data"))
    with Server(lambda h: send(h, code=404)) as server, pytest.raises(DataError) as error:
        get(server.address)
    assert f"at $LTHNB_DATA/toy/a.txt (LTHNB_DATA is {tmp_path / 'data'})" in str(error.value)


# What the server may do


def test_wrong_checksum(tmp_path):
    found = hashlib.sha256(b"0 1\n").hexdigest()
    with Server(lambda h: send(h, b"0 1\n")) as server:
        refused(server.address, f"what came (4 bytes) has SHA-256 {found}, expected {SHA256}")
        assert len(server.asked) == 1
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("begins", [b"<!DOCTYPE html><title>Log in", b"\n  <html><body>"])
def test_a_web_page_in_place_of_the_file(tmp_path, begins):
    with Server(lambda h: send(h, begins)) as server:
        refused(server.address, "it looks like a web page, as a login or a proxy shows one")
    assert kept(tmp_path) == set()


def test_a_web_page_after_a_redirect():
    def answer(handler):
        if handler.path == "/login":
            return send(handler, b"<html>Who are you?")
        return send(handler, code=302, Location="/login")

    with Server(answer) as server:
        refused(server.address, f"from {server.address}/login", "looks like a web page")


def test_cut_off(tmp_path):
    with Server(lambda h: send(h, length=5000)) as server:
        refused(server.address, "the transfer was cut off after 720 of 5,000 bytes", "3 times")
        assert len(server.asked) == 3
    assert kept(tmp_path) == set()


def test_cut_off_once():
    """The second try brings the whole file."""
    lengths = [5000, 720]
    with Server(lambda h: send(h, length=lengths.pop(0))) as server:
        assert get(server.address).read_bytes() == CONTENT
        assert len(server.asked) == 2


@pytest.mark.parametrize("sent", [0, 20_000])
def test_hanging(tmp_path, sent):
    """Before its headers, or in the middle."""

    def answer(handler):
        if sent:
            send(handler, b"x" * sent, length=1_000_000)
            handler.wfile.flush()
        server.over.wait(PATIENCE)

    with Server(answer) as server:
        after = " after 16,384 of 1,000,000 bytes" if sent else ""
        refused(server.address, f"the server sent nothing for 0.3 s{after}.", "tried 3 times")
        assert len(server.asked) == 3
    assert kept(tmp_path) == set()


@pytest.mark.parametrize(
    ("code", "words", "tries"),
    [
        (404, "answered 404 (Not Found). There is no such file any more", 1),
        (410, "answered 410 (Gone). There is no such file any more", 1),
        (403, "answered 403 (Forbidden). It, or a proxy on the way, does not let you in", 1),
        (429, "answered 429 (Too Many Requests). It was tried 3 times", 3),
        (500, "answered 500 (Internal Server Error). It was tried 3 times", 3),
        (503, "answered 503 (Service Unavailable). It was tried 3 times", 3),
        (599, "answered 599 (unknown).", 1),
    ],
)
def test_refused_by_the_server(code, words, tries):
    with Server(lambda h: send(h, code=code)) as server:
        refused(server.address, words)
        assert len(server.asked) == tries


def test_a_server_that_comes_back():
    codes = [503, 500, 200]
    with Server(lambda h: send(h, code=codes.pop(0))) as server:
        assert get(server.address).read_bytes() == CONTENT


def test_redirect():
    def answer(handler):
        there = {} if handler.path == "/b" else {"Location": "/b"}
        send(handler, code=302 if there else 200, **there)

    with Server(answer) as server:
        assert get(server.address).read_bytes() == CONTENT


def test_redirect_in_a_circle():
    with Server(lambda h: send(h, code=302, Location="/a.txt")) as server:
        refused(server.address, "led from one address to the next (Exceeded 30 redirects)")


def test_no_safe_connection():
    with Server() as server:
        address = server.address.replace("http:", "https:")
        refused(address, "no safe connection", "REQUESTS_CA_BUNDLE")


def test_nobody_there():
    refused("http://127.0.0.1:9", "the connection failed (Connection refused)", "tried 3 times")


def test_offline(monkeypatch):
    def getaddrinfo(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    text = refused("https://data.example", "cannot be resolved. Is this machine offline?")
    assert "tried" not in text


# Proxies


def test_proxy_of_the_environment(monkeypatch):
    with Server() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        assert get("http://data.example").read_bytes() == CONTENT
        assert proxy.asked == ["http://data.example/a.txt"]


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://me:secret@127.0.0.1:9", "cannot be used (Connection refused). The environment"),
        ("http://me:sec/ret@127.0.0.1:9:9", "the proxy's address cannot be read. The environment"),
    ],
)
def test_proxy_that_is_not_there(monkeypatch, proxy, words):
    monkeypatch.setenv("http_proxy", proxy)
    shown = "http://" + proxy.rpartition("@")[2]
    text = refused("http://data.example", words, f"sets a proxy, {shown}: is it the right one?")
    assert "sec" not in text
    assert "me:" not in text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h: send(h, b"<html>Welcome to our Wi-Fi"), "like a web page"),
        (lambda h: send(h, code=407), "answered 407 (Proxy Authentication Required)"),
        (lambda h: send(h, code=502), "answered 502 (Bad Gateway)"),
    ],
)
def test_proxy_that_answers_for_itself(monkeypatch, answer, words):
    with Server(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address.replace("//", "//me:secret@"))
        text = refused("http://data.example", words, f"sets a proxy, {proxy.address}")
    assert "secret" not in text


# The cache's folder


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "cache"
    with Server() as server:
        words = f"could not be kept in the cache {place / 'toy'}: Not a directory"
        refused(server.address, words, "name another folder in LTHNB_CACHE", cache_dir=place)
        assert server.asked == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_cache_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with Server() as server:
        refused(server.address, "Permission denied", "LTHNB_CACHE")
    tmp_path.chmod(0o700)


def test_full_disk(tmp_path, monkeypatch):
    def download(url, output_file, pooch):
        Path(output_file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: download)
    words = f"kept in the cache {tmp_path / 'cache' / 'toy'}: No space left on device. Make room"
    refused("http://data.example", words, "LTHNB_CACHE")
    assert kept(tmp_path) == set()


# Processes

FETCH = (
    "import sys\nfrom lthnb.fetching import retrieve\n"
    "print(retrieve(sys.argv[1] + '/a.txt', sys.argv[2], 'a.txt', source='toy'))"
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


def half_then_hang(server: Server, begun: threading.Event):
    """Answers the first request by half a file and nothing more, the others in full."""

    def answer(handler):
        if len(server.asked) > 1:
            return send(handler)
        send(handler, CONTENT * 100, length=10**6)
        handler.wfile.flush()
        begun.set()
        return server.over.wait(PATIENCE)

    return answer


def test_killed_in_the_middle(tmp_path):
    begun = threading.Event()
    with Server(lambda h: half_then_hang(server, begun)(h)) as server:
        process = fetching_process(server.address)
        assert begun.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while kept(tmp_path) != {".a.txt.part"} and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert kept(tmp_path) == {".a.txt.part"}
        assert get(server.address).read_bytes() == CONTENT
    assert kept(tmp_path) == {"a.txt"}


def test_interrupted_in_the_middle(tmp_path, monkeypatch):
    """Ctrl-C leaves nothing; so far, a part was written."""
    monkeypatch.setattr(fetching, "TIMEOUT", PATIENCE)

    def interrupt():
        assert begun.wait(PATIENCE)
        while not kept(tmp_path) and not over.wait(0.01):
            pass
        seen.extend(kept(tmp_path))
        # Python loses an interrupt that meets it while it cleans up what is no longer referred to,
        # as requests leaves it behind when the headers have come. People press again, too.
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(2)

    def fetch(address):
        try:
            get(address)
        finally:
            over.set()

    begun, over, seen = threading.Event(), threading.Event(), []
    # A shell starts what it runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Server(lambda h: half_then_hang(server, begun)(h)) as server:
            threading.Thread(target=interrupt, daemon=True).start()
            with pytest.raises(KeyboardInterrupt):
                fetch(server.address)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [".a.txt.part"]
    assert kept(tmp_path) == set()
