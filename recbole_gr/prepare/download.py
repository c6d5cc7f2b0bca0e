"""Downloads that go on where they were cut off, and are checked before they get their name."""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

_BLOCK = 1 << 18
_SECONDS_WITHOUT_DATA = 20
_ATTEMPTS = 3


class DownloadFailed(Exception):
    """A file could not be fetched; the message is the reason in a few words."""


class _BrokenOff(Exception):
    """The network failed; the message is the reason in a few words."""


def download(url: str, path: str, md5: str | None = None) -> None:
    """Fetch a file to ``path``; until it is whole it is ``path`` with ``.part`` at its end, which a later call goes on with.

    Args:
        url: http or https.
        path: where to; its folder is there.
        md5: the sum that it must have; without one, its length must be the one that the server tells.

    Raises:
        DownloadFailed
        OSError: it cannot be written.
    """
    part = f"{path}.part"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            total = _fetch_rest(url, part)
            break
        except urllib.error.HTTPError as error:
            raise DownloadFailed(f"the server answers {error.code} {error.reason}") from error
        except _BrokenOff as error:
            if attempt == _ATTEMPTS:
                raise DownloadFailed(str(error)) from error
    size = os.path.getsize(part)
    if total is not None and size != total:
        if size > total:
            os.remove(part)
        raise DownloadFailed(f"{size:,} of {total:,} bytes came")
    if md5 is not None and _md5(part) != md5:
        os.remove(part)
        raise DownloadFailed("what came has another MD5 sum than its publishers give; it was removed")
    os.replace(part, path)


def _fetch_rest(url: str, part: str) -> int | None:
    """Append to the part what it lacks; returns the length that the whole file should have, None if unknown."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    headers = {"User-Agent": "recbole-gr", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with _network():
            answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS_WITHOUT_DATA)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        total = _number_after("/", error.headers.get("Content-Range"))  # we have all, or more than there is
        if total == have:
            return total
        with suppress(FileNotFoundError):
            os.remove(part)
        return _fetch_rest(url, part)
    with answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if goes_on else 0  # a server without ranges sends all again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdecimal() else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=os.path.basename(part[:-5]), disable=None)
        with bar, open(part, "ab" if goes_on else "wb") as file:
            while block := _next_block(answer):
                file.write(block)
                bar.update(len(block))
    if total is not None and os.path.getsize(part) < total:
        raise _BrokenOff("the connection broke off")
    return total


def _next_block(answer: Any) -> bytes:
    with _network():
        return answer.read(_BLOCK)


@contextmanager
def _network() -> Iterator[None]:
    """What the network raises is an OSError too (of ssl, of an unreachable host); distinguished here from the disk's."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _BrokenOff(" ".join(str(reason).split()) or type(error).__name__) from error


def _number_after(sign: str, header: str | None) -> int | None:
    found = re.search(rf"{re.escape(sign)}(\d+)$", header or "")
    return int(found[1]) if found else None


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
