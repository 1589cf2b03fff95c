"""One published file, from its address into the cache: whole and verified, or not at all.

pooch transfers, tries again and verifies.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from lthnb.data import DataError

with warnings.catch_warnings():  # without widgets tqdm complains, in notebooks alone
    warnings.simplefilter("ignore")
    import pooch
    from pooch import file_hash

TIMEOUT = 30.0  # seconds without a byte after which a server counts as hanging
RETRIES = 2
CACHE = "LTHNB_CACHE"  # names where downloads go, else the user's cache folder


def retrieve(url: str, sha256: str, file: str, *, source: str, progress: bool) -> Path:
    """A published file of a source, from the cache, or from its address into the cache.

    What is in the cache is used without any request. progress: show a bar.
    Raises DataError where the file cannot be had, saying why and how to get it by hand.
    """
    folder = Path(os.environ.get(CACHE) or pooch.os_cache("lthnb"), source)
    if (folder / file).is_file() and file_hash(folder / file) == sha256:
        return folder / file
    known = {"registry": {file: f"sha256:{sha256}"}, "urls": {file: url}}
    # tqdm itself: pooch's own bar becomes a widget in a notebook, which a book cannot show.
    bar = tqdm(total=1, unit="B", unit_scale=True, desc=file, disable=not progress)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with bar, FileLock(folder / f".{file}.lock"):  # a second process waits, and finds the file
            cache = pooch.create(folder, base_url="", retry_if_failed=RETRIES, **known)
            pooch.get_logger().setLevel("WARNING")  # the bar says it
            get = pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
            return Path(cache.fetch(file, downloader=get))
    except (ValueError, OSError) as error:  # of the connection, the checksum, the disk
        # Alone, and without the user and password of a proxy's address.
        said = re.sub(r"//[^/\s'\"]*@", "//", f"{type(error).__name__}: {error}")
    raise DataError(
        f"source {source!r}: {file} could not be fetched into {folder} ({said}). By hand: get "
        f"{url}, whose SHA-256 is {sha256}, on any machine and put it at {source}/{file} in "
        f"{os.environ.get('LTHNB_DATA', 'a folder that LTHNB_DATA names')}. Another cache: {CACHE}."
    )
