"""What every tokenizer must do: a test of a new one inherits :class:`TokenizerTests` and says which tokenizer it is."""

import inspect

import numpy as np
import pytest
from pydantic.fields import FieldInfo

from recbole_gr.tokenizers import Quantised, SemanticIDs, add_tokenizer, registry, setting_fields, settings_of, tokenize
from recbole_gr.utils.errors import DataError


class TokenizerTests:
    """Conformance of a tokenizer.

    A subclass sets ``tokenizer`` by ``staticmethod(function)`` and, where its defaults take long or need other sizes,
    ``settings``, ``codebook_num``, ``codebook_size`` and ``dimension``.

    Attributes:
        tokenizer: the function.
        settings: values of some of its settings, for all tests.
        draws_from_seed: whether another seed may give other codes.
    """

    tokenizer = None
    settings: dict = {}
    codebook_num, codebook_size, dimension, n_items = 2, 8, 12, 120
    draws_from_seed = True

    @pytest.fixture
    def vectors(self):
        """float32 ``[n, d]``, without padding row."""
        return np.random.default_rng(0).normal(size=(self.n_items, self.dimension)).astype(np.float32)

    def quantised(self, vectors, seed=3):
        given = {"seed": seed, "device": "cpu", "show_progress": False, "cf_vectors": self.cf_vectors(len(vectors))}
        given = {name: given[name] for name in registry.given_by_the_run(self.tokenizer)}
        return self.tokenizer(vectors, self.codebook_num, self.codebook_size, **given, **self.settings)

    def cf_vectors(self, n_items):
        """A second set of vectors, float32 ``[n_items, d']``, for tokenizers that ask for one."""
        return np.random.default_rng(1).normal(size=(n_items, 5)).astype(np.float32)

    def ids(self, monkeypatch, vectors, **options):
        """The semantic IDs by ``tokenize``, which finds the tokenizer by a name of its own; row 0 is padding."""
        monkeypatch.setattr(registry, "_TOKENIZERS", {**registry._TOKENIZERS})
        add_tokenizer("conformance", self.tokenizer)
        padded = np.concatenate([np.zeros((1, vectors.shape[1]), dtype=np.float32), vectors])
        if registry.takes_cf_vectors(self.tokenizer):
            options["cf_vectors"] = np.pad(self.cf_vectors(len(vectors)), ((1, 0), (0, 0)))
        options = {"seed": 3, "collision": "none", **self.settings, **options}
        return tokenize(padded, "conformance", self.codebook_num, self.codebook_size, **options)

    def test_codes_are_whole_numbers_within_the_codebooks(self, vectors):
        made = self.quantised(vectors)
        assert isinstance(made, Quantised) and made.codes.dtype.kind in "iu"
        assert made.codes.shape == (self.n_items, self.codebook_num)
        assert made.codes.min() >= 0 and made.codes.max() < self.codebook_size

    def test_the_same_seed_gives_the_same_codes(self, vectors):
        first, again = self.quantised(vectors).codes, self.quantised(vectors).codes
        assert (first == again).all()
        if self.draws_from_seed:
            assert any((self.quantised(vectors, seed).codes != first).any() for seed in (4, 5))

    def test_the_random_state_of_others_stays(self, vectors):
        np.random.seed(7)
        expected = np.random.random()
        np.random.seed(7)
        self.quantised(vectors)
        assert np.random.random() == expected

    def test_the_vectors_stay_as_they_are(self, vectors):
        before = vectors.copy()
        self.quantised(vectors)
        assert (vectors == before).all()

    def test_a_read_only_memory_map(self, vectors, tmp_path):
        np.save(tmp_path / "vectors.npy", vectors)
        mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
        assert (self.quantised(mapped).codes == self.quantised(vectors).codes).all()

    def test_codebooks_have_a_vector_per_code(self, vectors):
        made = self.quantised(vectors)
        if made.codebooks is None:
            assert made.last_residual is None
            return
        assert len(made.codebooks) == self.codebook_num
        assert all(len(codebook) == self.codebook_size for codebook in made.codebooks)
        assert made.last_residual.shape == (self.n_items, made.codebooks[-1].shape[1])
        assert all(np.isfinite(codebook).all() for codebook in made.codebooks)

    def test_the_padding_row_has_no_codes(self, monkeypatch, vectors):
        ids = self.ids(monkeypatch, vectors)
        assert isinstance(ids, SemanticIDs) and (ids.codes[0] == -1).all()
        assert (ids.codes[1:] == self.quantised(vectors).codes).all()

    @pytest.mark.parametrize("rule", ["digit", "nearest", "sinkhorn"])
    def test_collisions_are_resolved(self, monkeypatch, vectors, rule):
        few = vectors[: self.codebook_size]  # so few that a level has a code for each
        assert self.ids(monkeypatch, few, collision=rule).statistics()["unique_share"] == 1.0

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_vectors_that_are_not_finite_are_refused(self, monkeypatch, vectors, value):
        vectors[4, 1] = value
        with pytest.raises(DataError, match=r"the vectors of 1 items \(5\) are NaN or infinite") as raised:
            self.ids(monkeypatch, vectors)
        assert "\n" not in str(raised.value)

    def test_settings_have_defaults_and_go_into_the_source(self, monkeypatch, vectors):
        settings, fields = settings_of(self.tokenizer), setting_fields(self.tokenizer)
        assert fields.keys() == settings.keys() >= self.settings.keys()
        assert all(isinstance(field, FieldInfo) and field.default == settings[key] for key, field in fields.items())
        assert inspect.signature(self.tokenizer).parameters.keys() >= {"vectors", "codebook_num", "codebook_size"}
        assert self.ids(monkeypatch, vectors).source.items() >= {**settings, **self.settings}.items()


class OrderFreeTokenizerTests(TokenizerTests):
    """Conformance of a tokenizer that gives an item the same codes in every order of the items."""

    def test_the_order_of_the_items_does_not_matter(self, vectors):
        order = np.random.default_rng(1).permutation(self.n_items)
        assert (self.quantised(vectors[order]).codes == self.quantised(vectors).codes[order]).all()
