"""Official files from their official places: https, archives of repositories, the Hugging Face hub.

Nothing that is there is overwritten: a file is fetched beside its place, checked, and moved. What
was fetched is listed in `fetched.json` of the set's folder, with address and hash, so that a later
call knows its own files from others.
"""

import functools
import hashlib
import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Dict, List, Sequence

from regap_benchmarks.official.check import sha256_of
from regap_benchmarks.official.set_facts import HubFiles, RemoteFile, SetFacts

LISTING = "fetched.json"
_STAGING = ".fetching"
_SECONDS = 60
_PLAIN_HOSTS = ("localhost", "127.0.0.1", "::1")
Say = Callable[[str], None]


class FetchError(RuntimeError):
    """What cannot be fetched, or must not be overwritten."""


def fetch_files(
    facts: Sequence[SetFacts], data: Path, *, accepted: bool, say: Say = lambda line: None
) -> List[str]:
    """Get the files of some tasks.

    Args:
        facts: of the tasks; files that they share are fetched once.
        data: of `--data`; the set's folder is made in it.
        accepted: the user has read the terms of a set that has its own.
        say: told of each file.

    Returns:
        what is left to do by hand.

    Raises:
        FetchError: terms that were not accepted, a file of somebody else, a wrong hash, an answer
            of the server that is no file, a missing package or login.
    """
    notes: List[str] = []
    done: List[Any] = []
    for fact in facts:
        origin = fact.origin
        remote = bool(origin.files or origin.hub)
        if remote and not origin.free and not accepted:
            raise FetchError(
                f"{fact.folder}: expected --accept-licence, found none. The terms are:"
                f" {fact.licence}. Read them at the source, then add it."
                + (f" By hand: {origin.by_hand}." if origin.by_hand else "")
            )
        folder = _Folder(data / fact.folder)
        for file in origin.files:
            if file not in done:
                done.append(file)
                fetch_file(file, folder.root, say=say)
        for hub in origin.hub:
            if hub not in done:
                done.append(hub)
                fetch_hub(hub, folder.root, say=say)
        note = f"{fact.folder}, by hand: {origin.by_hand}"
        if origin.by_hand and note not in notes:
            notes.append(note)
    return notes


class _Folder:
    """The folder of a set, with the list of what was fetched into it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def _path(self) -> Path:
        return self.root / LISTING

    def listed(self) -> Dict[str, Dict[str, str]]:
        if not self._path.is_file():
            return {}
        try:
            listing: Dict[str, Dict[str, str]] = json.loads(self._path.read_text("utf-8"))
        except json.JSONDecodeError as error:
            raise FetchError(
                f"{self._path}, line {error.lineno}: expected JSON, found {error.msg}. Remove the"
                " file."
            ) from error
        return listing

    def note(self, path: str, source: str, sha256: str) -> None:
        listing = self.listed()
        listing[path] = {"source": source, "sha256": sha256}
        text = json.dumps(listing, indent=1, sort_keys=True) + "\n"
        new = self._path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self._path)

    def has(self, path: str, source: str, expected: str) -> bool:
        """Whether the file is there already.

        Raises:
            FetchError: another file is at its place.
        """
        place = self.root / path
        if not place.exists():
            return False
        found = sha256_of(place) if place.is_file() else "a folder"
        known = self.listed().get(path, {})
        wanted = expected or (known.get("sha256", "") if known.get("source") == source else "")
        if found == wanted:
            return True
        raise FetchError(
            f"{place}: expected no file or the official one, found another. It is not overwritten:"
            " move it away, then fetch again."
        )

    def keep(self, new: Path, path: str, source: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(new, place)
        self.note(path, source, sha256_of(place))


def fetch_file(file: RemoteFile, root: Path, *, say: Say = lambda line: None) -> None:
    """Get one file, or unpack an archive, into the folder of a set.

    Raises:
        FetchError: see `fetch_files`.
    """
    folder = _Folder(root)
    if not file.members:
        if folder.has(file.path, file.url, file.sha256):
            say(f"{root / file.path}: there already")
            return
        folder.keep(_download(file, root), file.path, file.url)
        say(f"{root / file.path}: fetched from {file.url}")
        return
    mark = f"archive {file.url}"
    if mark in folder.listed():
        say(f"{root / file.path}: unpacked already")
        return
    archive = _download(file, root)
    number = _unpack(archive, file, folder)
    folder.note(mark, file.url, sha256_of(archive))
    archive.unlink()
    say(f"{root / file.path}: {number} files unpacked from {file.url}")


def _download(file: RemoteFile, root: Path) -> Path:
    """The file, checked, in the folder of what is being fetched; goes on after what is there."""
    parts = urllib.parse.urlsplit(file.url)
    if parts.scheme != "https" and parts.hostname not in _PLAIN_HOSTS:
        raise FetchError(f"{file.url}: expected an https address, found {parts.scheme!r}.")
    staging = root / _STAGING
    staging.mkdir(parents=True, exist_ok=True)
    part = staging / (hashlib.sha256(file.url.encode()).hexdigest()[:16] + ".part")
    # Only where hash or archive would show that two versions were joined.
    goes_on_after = part.is_file() and bool(file.sha256 or file.members)
    start = part.stat().st_size if goes_on_after else 0
    request = urllib.request.Request(file.url, headers={"User-Agent": "regap-bench"})  # noqa: S310
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            # A server that knows no ranges sends the whole again.
            goes_on = answer.status == 206
            length = answer.headers.get("Content-Length")
            with open(part, "ab" if goes_on else "wb") as target:
                before = target.tell()
                shutil.copyfileobj(answer, target)
                got = target.tell() - before
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise FetchError(
                f"{file.url}: expected the file, found {error.code} {error.reason}. Look whether it"
                " has moved; regap-bench tasks NAME names the source."
            ) from error
        # Nothing is left of the range: the part is the whole, and the hash decides.
    except OSError as error:
        raise FetchError(
            f"{file.url}: expected the file, found {error}. The same command goes on with what"
            " there is."
        ) from error
    else:
        if length is not None and got != int(length):
            raise FetchError(
                f"{file.url}: expected {length} bytes, found {got}. The same command goes on after"
                " them."
            )
    found = sha256_of(part)
    if file.sha256 and found != file.sha256:
        part.unlink()
        raise FetchError(
            f"{file.url}: expected SHA-256 {file.sha256}, found {found}. The file has changed at"
            " its source, or was damaged on the way; it was not kept."
        )
    return part


def _unpack(archive: Path, file: RemoteFile, folder: _Folder) -> int:
    number = 0
    try:
        with zipfile.ZipFile(archive) as packed:
            for item in packed.infolist():
                parts = PurePosixPath(item.filename).parts[file.strip :]
                inner = "/".join(parts)
                if item.is_dir() or not inner.startswith(file.members):
                    continue
                if ".." in parts or inner.startswith("/"):
                    raise FetchError(
                        f"{file.url}: expected paths inside of the archive, found"
                        f" {item.filename!r}. Nothing more of it was unpacked."
                    )
                path = f"{file.path}/{inner}" if file.path else inner
                with packed.open(item) as source:
                    new = archive.with_suffix(".member")
                    with open(new, "wb") as target:
                        shutil.copyfileobj(source, target)
                if not folder.has(path, file.url, sha256_of(new)):
                    place = folder.root / path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(new, place)
                number += 1
    except zipfile.BadZipFile as error:
        archive.unlink(missing_ok=True)
        raise FetchError(
            f"{file.url}: expected a zip archive, found {error}. The same command fetches it again."
        ) from error
    return number


def fetch_hub(hub: HubFiles, root: Path, *, say: Say = lambda line: None) -> None:
    """Get the files of a data set on the hub that match, each checked by the hub's own hash.

    Raises:
        FetchError: see `fetch_files`.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.utils import GatedRepoError, HfHubHTTPError
    except ImportError as error:
        raise FetchError(
            f"huggingface.co/datasets/{hub.repository}: expected huggingface_hub, found none. Run:"
            ' pip install "regap-plugin[data]".'
        ) from error
    place = f"huggingface.co/datasets/{hub.repository}"
    folder = _Folder(root)
    try:
        info = HfApi().dataset_info(hub.repository, revision=hub.revision, files_metadata=True)
        chosen = [item for item in info.siblings if _matches(item.rfilename, hub.patterns)]
        if not chosen:
            raise FetchError(
                f"{place}: expected files like {', '.join(hub.patterns)}, found none at"
                f" {info.sha}. They may have moved: look there."
            )
        for item in chosen:
            target = root / item.rfilename
            if target.exists():
                if not _same(target, item):
                    raise FetchError(
                        f"{target}: expected no file or the one of {place}, found another. It is"
                        " not overwritten: move it away, then fetch again."
                    )
                say(f"{target}: there already")
                continue
            staging = root / _STAGING
            staging.mkdir(parents=True, exist_ok=True)
            got = Path(
                hf_hub_download(
                    hub.repository,
                    item.rfilename,
                    repo_type="dataset",
                    revision=info.sha,
                    local_dir=staging,
                )
            )
            if not _same(got, item):
                got.unlink()
                raise FetchError(
                    f"{place}: expected {item.rfilename} with the hub's own hash, found another."
                    " It was not kept; fetch again."
                )
            folder.keep(got, item.rfilename, f"{place} at {info.sha}")
            say(f"{target}: fetched from {place}")
    except GatedRepoError as error:
        raise FetchError(
            f"{place}: expected access, found a set that asks for agreement. Agree on its page, log"
            " in by hf auth login, then fetch again."
        ) from error
    except HfHubHTTPError as error:
        raise FetchError(f"{place}: expected the files, found {error}.") from error


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def _same(path: Path, item: Any) -> bool:
    """Whether a file is the hub's: by SHA-256 of a large one, by git's own hash of a small one."""
    large = getattr(item, "lfs", None)
    if large is not None:
        expected = large["sha256"] if isinstance(large, dict) else large.sha256
        return bool(sha256_of(path) == expected)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(functools.partial(file.read, 1 << 20), b""):
            digest.update(block)
    return bool(digest.hexdigest() == item.blob_id)
