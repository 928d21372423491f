"""Files that are somebody else's, from a server of this machine: whole and in their place, or one line says why not."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from local_hub import LocalHub

from ivmix.benchmarks.files import FileFrom, find, state

BODY = b"videoid,name\nkettle_boiling_03,A kettle.\n" * 5000
SHA256 = hashlib.sha256(BODY).hexdigest()
WHAT, OPTION = "prompts of kettles", "--prompts FILE"


@dataclass
class Server:
    """Files by path, the requests for them, and what goes wrong: bytes after which a connection ends."""

    address: str
    server: ThreadingHTTPServer
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cut: int | None = None
    heads: bool = True  # whether it says how long a file is before it sends it

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("IVMIX_CACHE", str(tmp_path / "cache"))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(501 if not own.heads else None)

        def do_GET(self) -> None:
            self.answer(None)
            if self.path in own.files:
                self.wfile.write(own.files[self.path][: own.cut])

        def answer(self, status: int | None) -> None:
            own.requests.append(f"{self.command} {self.path}")
            self.send_response(status or (200 if self.path in own.files else 404))
            if self.path in own.files and own.heads:
                self.send_header("Content-Length", str(len(own.files[self.path])))
            self.end_headers()

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    own = Server(f"http://127.0.0.1:{http.server_port}", http)
    own.files["/a/captions.csv"] = BODY
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    yield own
    own.stop()


def kept(tmp_path: Path) -> list[str]:
    """What the cache holds, by name."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_file_is_downloaded_once_said_so_and_read_without_network_from_then_on(server, tmp_path, capsys):
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    assert state(file, None, WHAT, OPTION).kind == "download"
    assert not server.requests
    path = find(file, None, WHAT, OPTION)
    assert path.read_bytes() == BODY
    assert path == tmp_path / "cache" / SHA256 / "captions.csv"
    assert capsys.readouterr() == ("", f"downloading captions.csv (0.2 MB) from {file.source}\n")
    server.stop()
    assert find(file, None, WHAT, OPTION) == path
    assert state(file, None, WHAT, OPTION).kind == "here"
    assert capsys.readouterr() == ("", "")
    assert kept(tmp_path) == ["captions.csv"]


def test_two_files_of_one_name_do_not_take_each_others_place(server):
    server.files["/b/captions.csv"] = other = b"others"
    first, second = (FileFrom(f"{server.address}/{folder}/captions.csv") for folder in "ab")
    assert find(first, None, WHAT, OPTION).read_bytes() == BODY
    assert find(second, None, WHAT, OPTION).read_bytes() == other
    assert find(first, None, WHAT, OPTION).read_bytes() == BODY


def test_a_file_of_the_cache_that_was_damaged_is_downloaded_anew(server):
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    path = find(file, None, WHAT, OPTION)
    path.write_bytes(BODY[:-1])
    assert state(file, None, WHAT, OPTION).kind == "download"
    assert find(file, None, WHAT, OPTION).read_bytes() == BODY


def test_a_server_that_does_not_say_how_long_a_file_is_is_read_all_the_same(server, capsys):
    server.heads = False
    path = find(FileFrom(f"{server.address}/a/captions.csv", SHA256), None, WHAT, OPTION)
    assert path.read_bytes() == BODY
    assert "(of unknown size)" in capsys.readouterr().err


def test_another_file_at_the_address_is_refused_and_nothing_of_it_kept(server, tmp_path):
    server.files["/a/captions.csv"] = wrong = b"<html>moved</html>"
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    with pytest.raises(ValueError, match="another file than the known one") as told:
        find(file, None, WHAT, OPTION)
    for part in (WHAT, OPTION, file.source, SHA256, hashlib.sha256(wrong).hexdigest()):
        assert part in str(told.value)
    assert not kept(tmp_path)


@pytest.mark.parametrize("sha256", [SHA256, ""])
def test_half_a_file_is_told_by_its_bytes_whether_its_hash_is_known_or_not(server, tmp_path, sha256):
    server.cut = 70_000
    file = FileFrom(f"{server.address}/a/captions.csv", sha256)
    with pytest.raises(FileNotFoundError, match=f"70,000 of {len(BODY):,} bytes"):
        find(file, None, WHAT, OPTION)
    assert not kept(tmp_path)
    server.cut = None
    assert find(file, None, WHAT, OPTION).read_bytes() == BODY


def test_without_network_one_line_says_the_address_the_place_and_the_option(server, tmp_path):
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    server.stop()
    with pytest.raises(FileNotFoundError, match="Connection refused") as told:
        find(file, None, WHAT, OPTION)
    place = tmp_path / "cache" / SHA256 / "captions.csv"
    assert all(part in str(told.value) for part in (WHAT, file.source, str(place), OPTION))
    assert "\n" not in str(told.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(BODY)  # as it says
    assert find(file, None, WHAT, OPTION) == place


def test_an_address_with_nothing_behind_it_is_told_with_the_servers_answer(server, tmp_path):
    with pytest.raises(FileNotFoundError, match="HTTP Error 404"):
        find(FileFrom(f"{server.address}/gone.csv"), None, WHAT, OPTION)
    assert not kept(tmp_path)


def test_a_given_path_wins_and_is_only_warned_of_where_it_is_another_file(server, tmp_path, recwarn):
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    same, fixed = tmp_path / "same.csv", tmp_path / "fixed.csv"
    same.write_bytes(BODY)
    fixed.write_bytes(BODY + b"kettle_boiling_04,Another.\n")
    assert find(file, str(same), WHAT, OPTION) == same
    assert find(file, str(tmp_path), WHAT, OPTION) == tmp_path
    assert not recwarn
    with pytest.warns(UserWarning, match=f"{WHAT}: .*SHA-256 is [0-9a-f]{{64}}, expected {SHA256}"):
        assert find(file, str(fixed), WHAT, OPTION) == fixed
    assert SHA256 in state(file, str(fixed), WHAT, OPTION).text
    assert state(file, str(same), WHAT, OPTION).kind == "here"
    assert not server.requests


def test_a_given_path_with_nothing_there_is_told_and_nothing_downloaded_in_its_place(server, tmp_path):
    file = FileFrom(f"{server.address}/a/captions.csv", SHA256)
    with pytest.raises(FileNotFoundError, match=r"prompts of kettles: no file or folder .*gone; .*--prompts FILE"):
        find(file, str(tmp_path / "gone"), WHAT, OPTION)
    assert state(file, str(tmp_path / "gone"), WHAT, OPTION).kind == "missing"
    assert not server.requests


def test_what_only_its_reader_can_have_is_told_with_how_to_get_it(tmp_path):
    file = FileFrom("", hint="captions.json of the archive captions.zip")
    with pytest.raises(FileNotFoundError, match=f"{WHAT}: give its path by {OPTION}: {file.hint}") as told:
        find(file, None, WHAT, OPTION)
    assert (state(file, None, WHAT, OPTION).kind, state(file, None, WHAT, OPTION).text) == ("missing", str(told.value))
    assert find(file, str(tmp_path), WHAT, OPTION) == tmp_path


def test_a_path_that_a_description_names_is_read_and_has_to_be_the_known_file(tmp_path):
    path = tmp_path / "own.csv"
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*own\.csv"):
        find(FileFrom(str(path)), None, WHAT, OPTION)
    path.write_bytes(BODY)
    assert find(FileFrom(str(path), SHA256), None, WHAT, OPTION) == path
    path.write_bytes(b"another")
    with pytest.raises(ValueError, match=r"is not the known file: .* give its path by --prompts FILE"):
        find(FileFrom(str(path), SHA256), None, WHAT, OPTION)
    assert state(FileFrom(str(path), SHA256), None, WHAT, OPTION).kind == "missing"


def test_a_file_of_the_hub_is_read_through_its_cache(local_hub: LocalHub, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "feats.pt").write_bytes(BODY)
    local_hub.publish("somebody/features", tmp_path / "files")
    file = FileFrom("hub:somebody/features/feats.pt", SHA256)
    assert state(file, None, WHAT, OPTION).kind == "download"
    assert not local_hub.requests
    path = find(file, None, WHAT, OPTION)
    assert path.read_bytes() == BODY
    assert state(file, None, WHAT, OPTION).kind == "here"
    with pytest.raises(ValueError, match="is not the known file"):
        find(FileFrom(file.source, "0" * 64), None, WHAT, OPTION)
    local_hub.stop()
    assert find(file, None, WHAT, OPTION) == path
