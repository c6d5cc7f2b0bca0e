"""Item vectors from texts or a file, with their provenance: encoded once, reused from the cache, refused before any work."""

import json
import logging
import os
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from support.encoders import new_bert
from support.vector_files import TOKENS, VECTORS, assert_rows, keyed, write

import recbole_gr.data.item_vectors as vectors_module
from recbole_gr.data.item_vectors import encode_texts, item_vectors
from recbole_gr.utils.errors import RecBoleGRError, SettingError

ML_100K = os.path.join(find_spec("recbole").submodule_search_locations[0], "dataset_example", "ml-100k", "ml-100k.item")


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
