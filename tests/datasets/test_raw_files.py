import io
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from gnnfast.datasets.raw_files import data_root, download, extract_zip, find_or_download


class Response(io.BytesIO):
    def __init__(self, content: bytes, announced: int | None = None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if announced is None else announced)}


def serve(monkeypatch: pytest.MonkeyPatch, response: Response) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: response)


def test_the_root_is_the_argument_else_the_environment_else_data(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GNNFAST_DATA", "/somewhere")
    assert data_root("elsewhere") == Path("elsewhere")
    assert data_root(None) == Path("/somewhere")
    monkeypatch.delenv("GNNFAST_DATA")
    assert data_root(None) == Path("data")


def test_a_file_that_is_there_is_not_fetched(tmp_path: Path):
    (tmp_path / "second").touch()
    assert find_or_download([tmp_path / "first", tmp_path / "second"], "https://nowhere/first") == tmp_path / "second"


def test_a_missing_file_is_fetched_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, Response(b"content"))
    path = find_or_download([tmp_path / "new/folder/file"], "https://somewhere/file")
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_transfer_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, Response(b"cont", announced=7))
    with pytest.raises(OSError, match="broke off after 4 of 7 bytes"):
        download("https://somewhere/file", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_before_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, Response(b"content"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(OSError, match="GB free"):
        download("https://somewhere/file", tmp_path / "file")


def test_without_network_the_error_says_what_to_do(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="Get it from https://somewhere/file") as error:
        find_or_download([tmp_path / "a" / "file", tmp_path / "b" / "file"], "https://somewhere/file")
    assert isinstance(error.value.__cause__, urllib.error.URLError)
    assert str(tmp_path / "b" / "file") in str(error.value)


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "fine/../../escaped"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, name: str):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("innocent", "x")
        archive.writestr(name, "x")
    with pytest.raises(ValueError, match="points outside"):
        extract_zip(tmp_path / "evil.zip", tmp_path / "inside")
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "inside" / "innocent").exists()


def test_an_archive_cut_short_is_named(tmp_path: Path):
    (tmp_path / "short.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"short\.zip is not a whole \.zip file"):
        extract_zip(tmp_path / "short.zip", tmp_path)
