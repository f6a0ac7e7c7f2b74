"""Where the builders under data/ get their files: a folder or zip archive that is already here, else a download."""

import hashlib
import os
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from kzoo.data.named import import_tfds

_UNPACKED: list[tempfile.TemporaryDirectory] = []  # they vanish with the process, after the data set is built


def local(given: str | os.PathLike | None, variable: str) -> Path | None:
    """The folder that is named by `given`, else by the environment variable; a zip archive is unpacked beforehand.

    Returns:
        The folder; None where neither is set, so that the data set has to be downloaded.

    Raises:
        ValueError: if there is nothing at that place.
    """
    named = given or os.environ.get(variable)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.exists():
        raise ValueError(f"{path} does not exist. Set {variable} to the data set, or to nothing to download it.")
    if not zipfile.is_zipfile(path):
        return path
    # Not with TFDS, which takes what it once unpacked from a file of that name, whatever the file holds now.
    _UNPACKED.append(tempfile.TemporaryDirectory(prefix="kzoo_"))
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(_UNPACKED[-1].name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be unpacked ({error}). Get it again.") from error
    return Path(_UNPACKED[-1].name)


def download(get: Callable, url: str, variable: str, instead: str = "the zip file or its folder") -> Path:
    """Downloads `url`.

    Args:
        get: what downloads it, as `dl_manager.download` or `dl_manager.download_and_extract` of TFDS.
        variable: the environment variable that names a local copy. instead: what it may name.

    Raises:
        ValueError: if it cannot be had, with the remedy.
    """
    try:
        # TFDS tries for minutes before it says that there is no network: ask first.
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20).close()
        return Path(get(url))
    except (OSError, import_tfds().download.DownloadError) as error:
        raise ValueError(f"{url} could not be downloaded. Get it elsewhere and set {variable} to {instead}.") from error


def find_root(folder: Path, below: str, layouts: tuple[tuple[str, ...], ...], title: str) -> Path:
    """The folder that holds all of one of the `layouts`: `folder` itself, or `below` in it or in a folder of it.

    Raises:
        ValueError: if there is none.
    """
    for candidate in (folder, folder / below, *sorted(folder.glob(f"*/{below}"))):
        if any(all((candidate / name).exists() for name in layout) for layout in layouts):
            return candidate
    expected = ", or ".join(" and ".join(layout) for layout in layouts)
    raise ValueError(f"{folder} holds no {title} data set: expected {expected} in it or in {below}/.")


def content_digest(root: Path, *patterns: str) -> str:
    """SHA-256 over the names and SHA-256 of the files that fit one of the patterns; lines of text files are sorted.

    An archive that is packed on request has no checksum that lasts; what is in it has.
    """
    digest = hashlib.sha256()
    files = [path for pattern in patterns for path in root.glob(pattern)]
    for path in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
        content = path.read_bytes()
        if path.suffix == ".txt":
            content = b"\n".join(sorted(content.split()))
        digest.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def git_blob_id(path: Path) -> str:
    """The name that git gives a file's content, as a repository's listing shows it: SHA-1 over its length and bytes."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
