"""Downloads from a server on this machine."""

import errno
import hashlib
import http.client
import itertools
import os
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import support.raw_sources as raw
from support.raw_sources import prepare_dataset

from recbole_gr import cli
from recbole_gr.prepare import place
from recbole_gr.prepare.download import DownloadFailed, download
from recbole_gr.utils.errors import DataError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(ThreadingHTTPServer):
    """Serves ``files`` and keeps the Range of each request.

    It breaks off after ``bytes_until_break`` and tells ``length``, or the true one.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges, self.knows_ranges, self.bytes_until_break = {"/file": CONTENT}, [], True, None
        self.length = None

    def address(self, name=""):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, content = self.server, self.server.files.get(self.path)
        server.ranges.append(self.headers.get("Range"))
        if content is None:
            return self.send_error(404)
        begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1]) if server.knows_ranges else 0
        if begin and begin >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", server.length or str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : begin + (server.bytes_until_break or len(content))])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


def test_a_length_that_is_no_number_is_none(server):
    server.length = "long"
    download(server.address("file"), "here", hashlib.md5(CONTENT).hexdigest())
    assert content_of("here") == CONTENT


def test_a_file_comes_whole(server):
    download(server.address("file"), "here", hashlib.md5(CONTENT).hexdigest())
    assert content_of("here") == CONTENT and os.listdir() == ["here"] and server.ranges == [None]


def test_a_part_is_gone_on_with(server):
    with open("here.part", "wb") as file:
        file.write(CONTENT[:100_000])
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT and server.ranges == ["bytes=100000-"]


def test_a_connection_that_breaks_off_is_gone_on_with(server):
    server.bytes_until_break = 120_000
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT and server.ranges == [None, "bytes=120000-", "bytes=240000-"]


def test_what_came_is_kept_when_the_attempts_are_used_up(server):
    server.bytes_until_break = 50_000
    with pytest.raises(DownloadFailed, match="the connection broke off"):
        download(server.address("file"), "here")
    assert content_of("here.part") == CONTENT[:150_000] and not os.path.exists("here")
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT


def test_a_server_without_ranges_sends_all_again(server):
    server.knows_ranges = False
    with open("here.part", "wb") as file:
        file.write(b"x" * 100_000)
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more than there is"])
def test_a_part_that_is_whole_or_too_long(server, part):
    with open("here.part", "wb") as file:
        file.write(part)
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT
    assert server.ranges == [f"bytes={len(part)}-"] + ([None] if len(part) > len(CONTENT) else [])


def test_a_wrong_sum_is_an_error_and_nothing_stays(server):
    with pytest.raises(DownloadFailed, match="another MD5 sum"):
        download(server.address("file"), "here", "0" * 32)
    assert os.listdir() == []


def test_prepare_downloads_what_is_missing(server, monkeypatch):
    raw.write_amazon_2014("published")
    names = ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz")
    server.files = {f"/{name}": content_of(f"published/{name}") for name in names}
    folders = dict.fromkeys(("reviews_{category}_5.json.gz", "meta_{category}.json.gz"), server.address())
    monkeypatch.setattr(place, "FOLDERS", {"amazon-2014": folders})
    assert prepare_dataset("amazon-2014", "Beauty", core=4)["interactions"] == 16
    assert sorted(os.listdir("raw")) == sorted(names) and len(server.ranges) == 2
    prepare_dataset("amazon-2014", "Beauty", core=4)
    assert len(server.ranges) == 2  # they are there now


def test_without_a_network_one_line_says_what_to_do(server, monkeypatch):
    folders = {"reviews_{category}_5.json.gz": server.address()}
    monkeypatch.setattr(place, "FOLDERS", {"amazon-2014": folders})
    with pytest.raises(DataError, match="could not be downloaded .the server answers 404") as error:
        prepare_dataset("amazon-2014", "Beauty")
    assert "\n" not in str(error.value) and str(error.value).endswith("put it into the folder [raw]")
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match="reviews_Beauty_5.json.gz could not be downloaded .*refused.* get reviews_Beauty"):
        prepare_dataset("amazon-2014", "Beauty")


def break_off(monkeypatch, error, at):
    """The network raises an error in place of the blocks with these numbers, counted from 1 over all attempts."""
    read, numbers = http.client.HTTPResponse.read, itertools.count(1)

    def breaking(answer, amount=None):
        if next(numbers) in at:
            raise error
        return read(answer, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", breaking)


NETWORK_ERRORS = [
    (ssl.SSLError(1, "[SSL] record layer failure"), "[SSL] record layer failure"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
    (TimeoutError(), "TimeoutError"),
]


@pytest.mark.parametrize("error, reason", NETWORK_ERRORS)
def test_every_error_of_the_network_is_tried_again_and_then_said(server, monkeypatch, error, reason):
    break_off(monkeypatch, error, at=(1, 2, 3))
    with pytest.raises(DownloadFailed, match=re.escape(reason)):
        download(server.address("file"), "here")
    assert server.ranges == [None] * 3


def test_an_error_of_ssl_is_gone_on_after(server, monkeypatch):
    break_off(monkeypatch, ssl.SSLError(1, "record layer failure"), at=(2,))
    download(server.address("file"), "here")
    assert content_of("here") == CONTENT and server.ranges == [None, f"bytes={1 << 18}-"]


@pytest.mark.parametrize("in_its_place", ["reviews_Beauty_5.json.gz.part", "reviews_Beauty_5.json.gz"])
def test_a_download_that_cannot_be_written_names_the_folder(server, monkeypatch, capsys, in_its_place):
    server.files = {"/reviews_Beauty_5.json.gz": CONTENT}
    monkeypatch.setattr(place, "FOLDERS", {"amazon-2014": {"reviews_{category}_5.json.gz": server.address()}})
    os.makedirs(f"raw/{in_its_place}")
    assert cli.main(["prepare", "amazon-2014", "--category=Beauty", "--raw_dir=raw"]) == 2
    said = capsys.readouterr().err
    assert said == "error: raw_dir='raw': reviews_Beauty_5.json.gz cannot be written there (Is a directory)\n"
