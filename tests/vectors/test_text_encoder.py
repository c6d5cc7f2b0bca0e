"""Vectors of texts are those of the encoder, row by row; encoders that cannot work are one line; their identity."""

import hashlib
import logging
import os
import shutil

import numpy as np
import pytest
import torch
from support.encoders import BUNDLED, new_bert, save_with_tokenizer

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.vectors import encode_texts, encoder_identity, encoder_precision
from recbole_gr.vectors.text_encoder import _check_weights

# Of very different lengths, so that a mean over padding would show.
TEXTS = [
    "",
    "Toy Story, 1995, Animation Children's Comedy",
    "Heat",
    "",
    "Toy Story, 1995, Animation Children's Comedy",
    "The long journey of a film whose title goes on, and on, and on, until nobody remembers how it began, 1999, Drama",
]


def masked_mean(model, folder, texts, max_tokens):
    """The reference: one text at a time, no padding at all, mean over its tokens."""
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


def reference_texts():
    return [text for text in TEXTS if text]


# Encoding


def test_bundled_encoder_is_all_minilm():
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    expected = masked_mean(AutoModel.from_pretrained(BUNDLED).eval(), BUNDLED, reference_texts(), 128)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = encode_texts(TEXTS, show_progress=False)
    assert vectors.shape == (6, 384)
    np.testing.assert_allclose(rows_with_text(vectors), expected, atol=1e-5)
    direct = SentenceTransformer(BUNDLED, device="cpu").encode(reference_texts(), show_progress_bar=False)
    np.testing.assert_allclose(rows_with_text(vectors), direct, atol=1e-5)


def test_t5_is_the_masked_mean_of_its_encoder(t5):
    from sentence_transformers import SentenceTransformer
    from transformers import T5EncoderModel

    expected = masked_mean(T5EncoderModel.from_pretrained(t5).eval(), t5, reference_texts(), 128)
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
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


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

    expected = masked_mean(BertModel.from_pretrained(bert).eval(), bert, reference_texts(), 128)
    np.testing.assert_allclose(rows_with_text(encode_texts(TEXTS, bert, show_progress=False)), expected, atol=1e-5)


def test_half_precision_checkpoints_are_computed_in_float32_on_the_cpu(tmp_path):
    from transformers import BertModel

    folder = save_with_tokenizer(new_bert().to(torch.bfloat16), tmp_path)
    expected = masked_mean(BertModel.from_pretrained(folder).float().eval(), folder, reference_texts(), 128)
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
        expected = masked_mean(model, bert, reference_texts(), min(max_tokens or 256, 256))
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
