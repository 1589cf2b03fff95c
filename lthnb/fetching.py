"""One published file, from its address into the cache: whole and verified, or not at all.

pooch and requests do the transfer. What is here is what they leave open: one process at a time
fetches a file, what is transient is tried again, and a failure says what was found, what was
expected and how to get the file by hand.
"""

from __future__ import annotations

import hashlib
import http
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from lthnb.data import DataError

TIMEOUT = 30.0  # seconds without a byte after which a server counts as hanging
PAUSES = (1.0, 4.0)  # seconds before a second and a third try
TRANSIENT = (429, 500, 502, 503, 504)  # answers of HTTP that are worth another try
CACHE = "LTHNB_CACHE"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def retrieve(
    url: str,
    sha256: str,
    file: str,
    *,
    source: str,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """A published file of a source, from the cache, or from its address into the cache.

    cache_dir: default ``$LTHNB_CACHE``, else the user's cache folder; files lie in a folder of the
    source's name. What is there is used without any request. progress: show a bar.

    Raises DataError where the file cannot be had, saying why and how to get it by hand.
    """
    named = cache_dir or os.environ.get(CACHE)
    if named and _fits(path := Path(named) / source / file, sha256):
        return path  # without pooch, which a bare machine lacks
    by_hand = _by_hand(url, sha256, f"$LTHNB_DATA/{source}/{file}")
    try:
        import pooch
        from filelock import FileLock
    except ImportError as error:
        raise DataError(
            f"source {source!r}: {file} is not at hand, and fetching it from {_public(url)} needs "
            f"the package {error.name}: pip install {error.name}. {by_hand}"
        ) from error
    folder = Path(named or pooch.os_cache("lthnb")) / source
    path, part = folder / file, folder / f".{file}.part"
    try:
        if _fits(path, sha256):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file}.lock"):  # a second process waits, and finds the file
            if _fits(path, sha256):
                return path
            try:
                sender = _transfer(url, part, progress)  # over what a killed process has left
                if (found := file_sha256(part)) != sha256:
                    raise _Failed(_what_came(part, found, sha256, url, sender))
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
    except _Failed as failed:
        text = f"source {source!r}: {file} could not be fetched from {url}: {failed} {by_hand}"
    except OSError as error:
        text = (
            f"source {source!r}: {file} could not be kept in the cache {folder}: "
            f"{error.strerror or error}. Make room there and the folder writable, or name another "
            f"folder in {CACHE}. {by_hand}"
        )
    else:
        return path
    raise DataError(_public(text))  # alone: an exception behind it could tell a password


class _Failed(Exception):
    """A transfer that came to nothing; the text says why, in a sentence or two."""


def _fits(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _by_hand(url: str, sha256: str, place: str) -> str:
    base = os.environ.get("LTHNB_DATA")
    where = f"LTHNB_DATA is {base}" if base else "LTHNB_DATA names a folder of yours"
    return (
        f"By hand: get {_public(url)}, whose SHA-256 is {sha256}, on any machine and put it at "
        f"{place} ({where})."
    )


def _public(text: str) -> str:
    """Without the user and password of any address in it."""
    return re.sub(r"//[^/\s'\"]*@", "//", text)


def _transfer(url: str, part: Path, progress: bool) -> str:
    """Write what an address sends into a file, trying again what is transient.

    Returns the address that sent it, another one after a redirect. Raises _Failed where it does
    not arrive, OSError where it cannot be written.
    """
    for pause in (*PAUSES, None):
        try:
            return _try(url, part, progress)
        except _Failed as failed:
            text, transient = failed.args
            if not transient:
                raise _Failed(text) from None
            if pause is None:
                raise _Failed(f"{text} It was tried {len(PAUSES) + 1} times.") from None
        time.sleep(pause)


def _try(url: str, part: Path, progress: bool) -> str:
    """Transfer once; returns the address that sent it.

    Raises _Failed with a text, and whether another try may help.
    """
    import pooch
    from requests.exceptions import RequestException
    from tqdm import tqdm

    answers: list[Any] = []
    # tqdm itself: pooch's own bar becomes a widget in a notebook, which a book cannot show.
    bar = tqdm(total=1, unit="B", unit_scale=True, desc=part.name[1:-5], disable=not progress)
    get = pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=1 << 13,
        timeout=TIMEOUT,
        hooks={"response": lambda answer, *_, **__: answers.append(answer)},
    )
    try:
        with bar:
            get(url, str(part), None)
    except RequestException as error:
        raise _Failed(*_why(error, url, answers[-1] if answers else None)) from None
    finally:
        for answer in answers:
            answer.close()
    return answers[-1].url


def _why(error: Exception, url: str, answer: Any) -> tuple[str, bool]:
    """Say why a transfer failed, and whether another try may help."""
    from requests import exceptions
    from urllib3.exceptions import ReadTimeoutError

    proxy = _proxy(url)
    by_proxy = f" The environment sets a proxy, {proxy}: is it the right one?" if proxy else ""
    causes = _causes(error)
    if isinstance(error, exceptions.HTTPError):
        code = error.response.status_code
        try:
            phrase = http.HTTPStatus(code).phrase
        except ValueError:
            phrase = "unknown"
        text = f"the server answered {code} ({phrase})."
        if code in (404, 410):
            return f"{text} There is no such file any more; please report it.", False
        if code in (401, 403, 407):
            return f"{text} It, or a proxy on the way, does not let you in.{by_proxy}", False
        return text + by_proxy, code in TRANSIENT
    if isinstance(error, exceptions.TooManyRedirects):
        return f"it only led from one address to the next ({_last_word(causes)}).{by_proxy}", False
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy cannot be used ({_last_word(causes)}).{by_proxy}", False
    if isinstance(error, exceptions.SSLError):
        return (
            f"no safe connection ({_last_word(causes)}). A proxy that reads along needs its "
            f"certificate in REQUESTS_CA_BUNDLE; a wrong clock does this too.{by_proxy}",
            False,
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        text = f"the name of its server cannot be resolved. Is this machine offline?{by_proxy}"
        return text, False
    hangs = isinstance(error, exceptions.Timeout)
    if hangs or any(isinstance(cause, ReadTimeoutError) for cause in causes):
        after = f" after {_received(answer)}" if answer is not None else ""
        return f"the server sent nothing for {TIMEOUT:g} s{after}.{by_proxy}", True
    if answer is not None and isinstance(
        error, (exceptions.ChunkedEncodingError, exceptions.ConnectionError)
    ):
        return f"the transfer was cut off after {_received(answer)}.{by_proxy}", True
    if proxy and isinstance(error, exceptions.InvalidURL):  # its text could tell a password
        return f"the proxy's address cannot be read.{by_proxy}", False
    transient = isinstance(error, exceptions.ConnectionError)
    return f"the connection failed ({_last_word(causes)}).{by_proxy}", transient


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception and what led to it, the last one first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _last_word(causes: list[BaseException]) -> str:
    """What the operating system said, or whoever was nearest to it."""
    text = getattr(causes[-1], "strerror", None) or str(causes[-1]) or type(causes[-1]).__name__
    return text.strip().rstrip(".")


def _received(answer: Any) -> str:
    total = answer.headers.get("Content-Length")
    return f"{answer.raw.tell():,}" + (f" of {int(total):,}" if total else "") + " bytes"


def _proxy(url: str) -> str | None:
    """The proxy that the environment sets for an address, without user and password."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    scheme = proxy.partition("//")[0] + "//" if "//" in proxy else ""
    return scheme + proxy.removeprefix(scheme).rpartition("@")[2]


def _what_came(part: Path, found: str, sha256: str, url: str, sender: str) -> str:
    """Say of a whole file what is wrong with it."""
    with part.open("rb") as handle:
        begins = handle.read(1024).lstrip().lower()
    size = f"{part.stat().st_size:,} bytes" + (f" from {sender}" if sender != url else "")
    text = f"what came ({size}) has SHA-256 {found}, expected {sha256};"
    if begins.startswith((b"<!doctype html", b"<html")):
        proxy = _proxy(url)
        text += " it looks like a web page, as a login or a proxy shows one instead of the file."
        return text + (f" The environment sets a proxy, {proxy}." if proxy else "")
    return f"{text} it is not the published file, and was not kept. Please report it."
