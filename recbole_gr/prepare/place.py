"""Where a raw file is: in its folder, unpacked or not, or still with its publishers."""

from __future__ import annotations

import os
from dataclasses import dataclass

from recbole_gr.integration.check_run import check_writable
from recbole_gr.prepare.download import DownloadFailed, download
from recbole_gr.prepare.source import RawFile, Source
from recbole_gr.utils.errors import DataError, SettingError

# Where publishers keep their files: the only table of addresses. Yelp's can be had only from its page.
_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_AMAZON_2018 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"
_AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/"
_STEAM = "https://cseweb.ucsd.edu/~wckang/"

#: Folders by source and by file, ``{category}`` as in the sources.
FOLDERS = {
    "amazon-2014": {
        "reviews_{category}_5.json.gz": _AMAZON_2014,
        "reviews_{category}.json.gz": _AMAZON_2014,
        "meta_{category}.json.gz": _AMAZON_2014,
    },
    "amazon-2018": {
        "{category}_5.json.gz": f"{_AMAZON_2018}categoryFilesSmall/",
        "{category}.json.gz": f"{_AMAZON_2018}categoryFiles/",
        "meta_{category}.json.gz": f"{_AMAZON_2018}metaFiles2/",
    },
    "amazon-2023": {
        "{category}.jsonl.gz": f"{_AMAZON_2023}raw/review_categories/",
        "{category}.csv.gz": f"{_AMAZON_2023}benchmark/5core/rating_only/",
        "{category}.train.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "{category}.valid.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "{category}.test.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "meta_{category}.jsonl.gz": f"{_AMAZON_2023}raw/meta_categories/",
    },
    "movielens-100k": {"ml-100k.zip": _GROUPLENS},
    "movielens-1m": {"ml-1m.zip": _GROUPLENS},
    "movielens-20m": {"ml-20m.zip": _GROUPLENS},
    "movielens-32m": {"ml-32m.zip": _GROUPLENS},
    "steam": {"steam_reviews.json.gz": _STEAM, "steam_games.json.gz": _STEAM},
}

#: MD5 sums that the publishers give.
MD5 = {
    "ml-100k.zip": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m.zip": "c4d9eecfca2ab87c1945afe126590906",
    "ml-20m.zip": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-32m.zip": "d472be332d4daa821edc399621853b57",
}


@dataclass(frozen=True)
class Place:
    """A file, or a member of a zip file.

    Args:
        path: of the file.
        member: inside the zip; None where the file is no zip.
    """

    path: str
    member: str | None = None


def find_file(raw: RawFile, raw_dir: str) -> Place | None:
    """Look for a file in a folder, compressed or not, in the archive that it comes in or unpacked from that.

    Args:
        raw: with the category in its name.
        raw_dir: the folder.

    Returns:
        Its place; None if it is not there.
    """
    plain = raw.name.removesuffix(".gz")
    folder = raw.archive.removesuffix(".zip") if raw.archive else ""  # GroupLens's archives hold a folder of their name
    for parent in (raw_dir, *([os.path.join(raw_dir, folder)] if folder else [])):
        for name in (raw.name, plain, f"{plain}.gz"):
            if os.path.isfile(path := os.path.join(parent, name)):
                return Place(path)
    if raw.archive and os.path.isfile(path := os.path.join(raw_dir, raw.archive)):
        return Place(path, f"{folder}/{raw.name}")
    return None


def check_raw_dir(raw_dir: str) -> None:
    """The folder of raw files may be missing, as a download makes it, but nothing else may be in its place.

    Raises:
        SettingError: it is no folder, or cannot be reached.
    """
    try:
        os.stat(os.path.join(raw_dir, ""))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SettingError("raw_dir", raw_dir, f"the folder cannot be read ({error.strerror})") from error


def choose_variant(source: Source, category: str | None, raw_dir: str) -> str:
    """Of the sets of files that interactions can be read from, the first that is there, wholly or at least in part.

    Args:
        source: where from.
        category: of a source that has categories.
        raw_dir: the folder.

    Returns:
        Its name; the first of all where none is there.
    """
    for enough in (all, any):
        for name, files in source.variants.items():
            if enough(find_file(raw.named(category), raw_dir) for raw in files):
                return name
    return next(iter(source.variants))


def get_file(source: Source, raw: RawFile, category: str | None, raw_dir: str, *, may_download: bool = True) -> Place:
    """Find a file, or else download it.

    Args:
        source: where from.
        raw: without the category in its name.
        category: of a source that has categories.
        raw_dir: the folder that it lies in or goes to.
        may_download: look further than the folder.

    Raises:
        DataError: it is not there; says which file to put where.
        SettingError: it cannot be written into the folder.
    """
    named = raw.named(category)
    place = find_file(named, raw_dir)
    if place is not None:
        return place
    what_to_do = f"get {named.shipped_as} from the page {source.page}, and put it into the folder [{raw_dir}]"
    address = FOLDERS.get(source.name, {}).get(raw.shipped_as)
    if not may_download or address is None:
        reason = "download=False" if address else "it cannot be downloaded by a program"
        raise DataError(f"there is no file {named.shipped_as} in [{raw_dir}] ({reason}): {what_to_do}")
    check_writable("raw_dir", raw_dir)
    try:
        download(address + named.shipped_as, os.path.join(raw_dir, named.shipped_as), MD5.get(named.shipped_as))
    except DownloadFailed as error:
        raise DataError(f"{named.shipped_as} could not be downloaded ({error}): {what_to_do}") from error
    except OSError as error:
        reason = f"{named.shipped_as} cannot be written there ({error.strerror or error})"
        raise SettingError("raw_dir", raw_dir, reason) from error
    place = find_file(named, raw_dir)
    assert place is not None  # it has just been downloaded
    return place
