"""`regap-bench data fetch`, from a server on this machine and from a fake hub."""

import dataclasses
import hashlib
import http.server
import io
import json
import sys
import threading
import types
import zipfile

import pytest

from regap_benchmarks import cli
from regap_benchmarks.official.fetch import LISTING, FetchError, fetch_file, fetch_files, fetch_hub
from regap_benchmarks.official.set_facts import HubFiles, Origin, RemoteFile
from regap_benchmarks.plugins import load_plugins

CONTENT = bytes(range(256)) * 400


class _Server(http.server.ThreadingHTTPServer):
    """Serves `files`; counts what it sent, cuts answers at `cut` bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.sent, self.asked = {}, [], []
        self.cut, self.ranges = None, True

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        content = server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and server.ranges:
            start = int(self.headers["Range"][len("bytes=") : -1])
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        part = content[start : server.cut]
        server.sent.append(len(part))
        self.wfile.write(part)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    made = _Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _remote(server, content=CONTENT, **fields):
    server.files["a.bin"] = content
    fields.setdefault("sha256", _sha256(content))
    return RemoteFile(server.url("a.bin"), "deep/a.bin", **fields)


def test_a_file_is_fetched_checked_and_listed(server, tmp_path):
    file = _remote(server)
    said = []
    fetch_file(file, tmp_path, say=said.append)
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT
    listing = json.loads((tmp_path / LISTING).read_text())
    assert listing == {"deep/a.bin": {"source": file.url, "sha256": file.sha256}}
    fetch_file(file, tmp_path, say=said.append)
    assert (len(server.asked), said[1][-13:]) == (1, "there already")


def test_a_cut_file_goes_on_where_it_was_cut(server, tmp_path):
    file = _remote(server)
    server.cut = 1000
    with pytest.raises(FetchError, match=r"The same command goes on"):
        fetch_file(file, tmp_path)
    assert not (tmp_path / "deep/a.bin").exists()
    server.cut = None
    fetch_file(file, tmp_path)
    assert server.asked == [None, "bytes=1000-"]
    assert server.sent == [1000, len(CONTENT) - 1000]
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_whole_again(server, tmp_path):
    file = _remote(server)
    server.cut, server.ranges = 1000, False
    with pytest.raises(FetchError):
        fetch_file(file, tmp_path)
    server.cut = None
    fetch_file(file, tmp_path)
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_kept(server, tmp_path):
    file = _remote(server)
    part = tmp_path / ".fetching" / (_sha256(file.url.encode())[:16] + ".part")
    part.parent.mkdir()
    part.write_bytes(CONTENT)
    fetch_file(file, tmp_path)
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT


def test_a_file_without_a_known_hash_is_never_joined_of_two_versions(server, tmp_path):
    file = _remote(server, sha256="")
    server.cut = 1000
    with pytest.raises(FetchError):
        fetch_file(file, tmp_path)
    server.cut, server.files["a.bin"] = None, CONTENT[::-1]
    fetch_file(file, tmp_path)
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT[::-1]
    fetch_file(file, tmp_path)
    assert len(server.asked) == 2


def test_another_hash_is_refused_and_not_kept(server, tmp_path):
    file = _remote(server, sha256="0" * 64)
    with pytest.raises(FetchError, match=r"expected SHA-256 0{64}, found"):
        fetch_file(file, tmp_path)
    assert not (tmp_path / "deep").exists()
    assert not list((tmp_path / ".fetching").iterdir())


@pytest.mark.parametrize("sha256", ["", None])
def test_a_file_of_somebody_else_is_not_overwritten(server, tmp_path, sha256):
    file = _remote(server, **({} if sha256 is None else {"sha256": sha256}))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.bin").write_text("mine")
    with pytest.raises(FetchError, match="It is not overwritten"):
        fetch_file(file, tmp_path)
    assert (tmp_path / "deep/a.bin").read_text() == "mine"
    assert not server.asked


def test_what_the_server_does_not_have_is_told(server, tmp_path):
    file = RemoteFile(server.url("none"), "none")
    with pytest.raises(FetchError, match="expected the file, found 404"):
        fetch_file(file, tmp_path)
    with pytest.raises(FetchError, match="expected an https address, found 'http'"):
        fetch_file(RemoteFile("http://example.org/a", "a"), tmp_path)


def _archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def test_an_archive_is_unpacked_in_part_and_once(server, tmp_path):
    content = _archive({"top-1/data/a.png": b"a", "top-1/src/b.py": b"b", "top-1/LICENSE": b"c"})
    file = _remote(server, content, members=("data/", "LICENSE"), strip=1)
    file = dataclasses.replace(file, path="")
    fetch_file(file, tmp_path)
    fetch_file(file, tmp_path)
    assert (tmp_path / "data/a.png").read_bytes() == b"a"
    assert (tmp_path / "LICENSE").read_bytes() == b"c"
    assert not (tmp_path / "src").exists()
    assert len(server.asked) == 1


def test_an_archive_cannot_write_outside_or_over_files(server, tmp_path):
    outside = _remote(server, _archive({"data/../../evil": b"x"}), members=("data/",))
    with pytest.raises(FetchError, match="expected paths inside of the archive"):
        fetch_file(outside, tmp_path / "set")
    assert not (tmp_path / "evil").exists()
    over = _remote(server, _archive({"data/mine": b"x"}), members=("data/",))
    mine = tmp_path / "other/deep/a.bin/data/mine"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(FetchError, match="It is not overwritten"):
        fetch_file(over, tmp_path / "other")
    assert mine.read_text() == "mine"


def test_what_is_no_archive_is_told(server, tmp_path):
    with pytest.raises(FetchError, match="expected a zip archive"):
        fetch_file(_remote(server, b"no zip", members=("data/",)), tmp_path)


@pytest.fixture
def advbench(server, monkeypatch):
    """AdvBench, got from the server."""
    task = load_plugins().benchmarks.get("advbench")
    server.files["a.csv"] = b"goal,target\nBake bread.,Sure\n"
    file = RemoteFile(server.url("a.csv"), "harmful_behaviors.csv", _sha256(server.files["a.csv"]))
    monkeypatch.setattr(
        task,
        "facts",
        dataclasses.replace(task.facts, counts=(), sha256={}, origin=Origin((file,), free=True)),
    )
    return task


def test_the_command_fetches_and_checks(advbench, tmp_path, capsys):
    assert cli.main(["data", "fetch", "advbench", "--data", str(tmp_path)]) == 0
    assert "advbench: 1 samples, as published" in capsys.readouterr().out
    (tmp_path / "advbench/harmful_behaviors.csv").write_text("mine")
    assert cli.main(["data", "fetch", "advbench", "--data", str(tmp_path)]) == 1
    assert "It is not overwritten" in capsys.readouterr().err


def test_terms_of_its_own_are_accepted_first(advbench, server, tmp_path, monkeypatch):
    origin = dataclasses.replace(advbench.facts.origin, free=False, by_hand="ask")
    facts = dataclasses.replace(advbench.facts, origin=origin)
    with pytest.raises(FetchError, match=r"expected --accept-licence.*MIT.*By hand: ask"):
        fetch_files([facts], tmp_path, accepted=False)
    assert not server.asked
    assert fetch_files([facts, facts], tmp_path, accepted=True) == ["advbench, by hand: ask"]
    assert len(server.asked) == 1


def test_what_can_be_got_by_hand_alone_is_said(tmp_path):
    facts = load_plugins().benchmarks.get("hades_white").facts
    facts = dataclasses.replace(facts, origin=Origin(by_hand="ask"))
    assert fetch_files([facts], tmp_path, accepted=False) == ["hades, by hand: ask"]


@pytest.mark.parametrize("name", ["mm_safetybench", "vlguard", "hades", "vlsafe"])
def test_sets_with_terms_ask_for_them(name, tmp_path, capsys):
    assert cli.main(["data", "fetch", name, "--data", str(tmp_path)]) == 1
    assert "expected --accept-licence" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class _GatedError(Exception):
    pass


class _HttpError(Exception):
    pass


class _Hub:
    """Stands in for `huggingface_hub`."""

    def __init__(self, files, *, gated=False, damage=False):
        self.files, self.gated, self.damage, self.downloads = files, gated, damage, []

    def install(self, monkeypatch):
        module = types.ModuleType("huggingface_hub")
        errors = types.ModuleType("huggingface_hub.utils")
        module.HfApi = lambda: types.SimpleNamespace(dataset_info=self.dataset_info)
        module.hf_hub_download = self.download
        errors.GatedRepoError, errors.HfHubHTTPError = _GatedError, _HttpError
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        monkeypatch.setitem(sys.modules, "huggingface_hub.utils", errors)

    def dataset_info(self, repository, *, revision, files_metadata):
        assert files_metadata
        siblings = []
        for number, (name, content) in enumerate(self.files.items()):
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            large = {"sha256": _sha256(content)} if number % 2 else None
            siblings.append(types.SimpleNamespace(rfilename=name, lfs=large, blob_id=blob))
        return types.SimpleNamespace(sha="abc", siblings=siblings)

    def download(self, repository, name, *, repo_type, revision, local_dir):
        assert (repo_type, revision) == ("dataset", "abc")
        if self.gated:
            raise _GatedError("403")
        self.downloads.append(name)
        path = local_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[name] + b"!" * self.damage)
        return str(path)


HUB = HubFiles("some/set", ("data/*.parquet",))
FILES = {"data/a.parquet": b"a", "data/b.parquet": b"b", "README.md": b"c"}


def test_files_of_the_hub_are_fetched_checked_and_not_fetched_again(monkeypatch, tmp_path):
    hub = _Hub(FILES)
    hub.install(monkeypatch)
    fetch_hub(HUB, tmp_path)
    fetch_hub(HUB, tmp_path)
    assert hub.downloads == ["data/a.parquet", "data/b.parquet"]
    assert (tmp_path / "data/b.parquet").read_bytes() == b"b"
    listing = json.loads((tmp_path / LISTING).read_text())
    assert listing["data/a.parquet"]["source"] == "huggingface.co/datasets/some/set at abc"


def test_the_hub_overwrites_nothing_and_keeps_nothing_damaged(monkeypatch, tmp_path):
    _Hub(FILES, damage=True).install(monkeypatch)
    with pytest.raises(FetchError, match=r"expected data/a\.parquet with the hub's own hash"):
        fetch_hub(HUB, tmp_path)
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.parquet").write_text("mine")
    with pytest.raises(FetchError, match="It is not overwritten"):
        fetch_hub(HUB, tmp_path)
    assert (tmp_path / "data/a.parquet").read_text() == "mine"


def test_a_gated_set_an_empty_one_and_no_package_are_told(monkeypatch, tmp_path):
    _Hub(FILES, gated=True).install(monkeypatch)
    with pytest.raises(FetchError, match="hf auth login"):
        fetch_hub(HUB, tmp_path)
    _Hub({"other": b""}).install(monkeypatch)
    with pytest.raises(FetchError, match=r"expected files like data/\*\.parquet, found none"):
        fetch_hub(HUB, tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(FetchError, match="expected huggingface_hub, found none"):
        fetch_hub(HUB, tmp_path)


def test_every_address_is_https_and_every_set_says_how_to_get_it():
    benchmarks = load_plugins().benchmarks
    for name in benchmarks.names:
        facts = benchmarks.get(name).facts
        if facts is None:
            continue
        origin = facts.origin
        assert origin.files or origin.hub or origin.by_hand
        assert all(file.url.startswith("https://") for file in origin.files)
        assert all(len(file.sha256) in (0, 64) for file in origin.files)
