"""Where a raw file is: in its folder, unpacked or not, or still with its publishers."""

import os
from dataclasses import dataclass

from recbole_gr.integration.check_run import check_writable
from recbole_gr.prepare.download import DownloadFailed, download
from recbole_gr.prepare.urls import FOLDERS, MD5
from recbole_gr.utils.errors import DataError, SettingError


@dataclass(frozen=True)
class Place:
    """A file, or a member of a zip file.

    Args:
        path (str): of the file.
        member (str): inside the zip; None where the file is no zip.
    """

    path: str
    member: str | None = None


def find_file(raw, raw_dir):
    """Look for a file in a folder, compressed or not, in the archive that it comes in or unpacked from that.

    Args:
        raw (RawFile): with the category in its name.
        raw_dir (str): the folder.

    Returns:
        Place: None if it is not there.
    """
    plain = raw.name.removesuffix(".gz")
    folder = raw.archive and raw.archive.removesuffix(".zip")  # GroupLens's archives hold a folder of their name
    for parent in (raw_dir, *([os.path.join(raw_dir, folder)] if folder else [])):
        for name in (raw.name, plain, f"{plain}.gz"):
            if os.path.isfile(path := os.path.join(parent, name)):
                return Place(path)
    if raw.archive and os.path.isfile(path := os.path.join(raw_dir, raw.archive)):
        return Place(path, f"{folder}/{raw.name}")
    return None


def check_raw_dir(raw_dir):
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


def choose_variant(source, category, raw_dir):
    """Of the sets of files that interactions can be read from, the first that is there, wholly or at least in part.

    Args:
        source (Source): where from.
        category (str): or None.
        raw_dir (str): the folder.

    Returns:
        str: its name; the first of all where none is there.
    """
    for enough in (all, any):
        for name, files in source.variants.items():
            if enough(find_file(raw.named(category), raw_dir) for raw in files):
                return name
    return next(iter(source.variants))


def get_file(source, raw, category, raw_dir, may_download=True):
    """Find a file, or else download it.

    Args:
        source (Source): where from.
        raw (RawFile): without the category in its name.
        category (str): or None.
        raw_dir (str): the folder that it lies in or goes to.
        may_download (bool): look further than the folder.

    Returns:
        Place

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
    return find_file(named, raw_dir)
