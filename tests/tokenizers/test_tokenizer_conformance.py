"""Every tokenizer of the package is what :class:`support.tokenizer_tests.TokenizerTests` asks of one; their settings."""

import re
import subprocess
import sys

import numpy as np
import pytest
from support.processes import REPOSITORY
from support.tokenizer_tests import OrderFreeTokenizerTests, TokenizerTests

from recbole_gr.tokenizers import (
    Quantised,
    check_tokenizer_settings,
    find_tokenizer,
    registry,
    setting_fields,
    tokenizer_names,
)
from recbole_gr.tokenizers.families.baselines import lsh, random
from recbole_gr.tokenizers.families.letter import letter
from recbole_gr.tokenizers.families.product import opq, pq
from recbole_gr.tokenizers.families.rkmeans import rkmeans
from recbole_gr.tokenizers.families.rqvae import rqvae, rvq
from recbole_gr.tokenizers.quantiser import ESTIMATORS, LEARNERS
from recbole_gr.utils.errors import SettingError


class TestRKMeans(TokenizerTests):
    tokenizer = staticmethod(rkmeans)


class TestBalancedRKMeans(TokenizerTests):
    tokenizer = staticmethod(rkmeans)
    settings = {"kmeans_balanced": True}


class TestRVQ(TokenizerTests):
    tokenizer = staticmethod(rvq)
    settings = {"tokenizer_steps": 5, "tokenizer_batch_size": 50}


class TestRQVAE(TokenizerTests):
    tokenizer = staticmethod(rqvae)
    settings = {"tokenizer_steps": 5, "tokenizer_batch_size": 50, "rqvae_hidden": [16], "rqvae_latent": 4}


class TestLETTER(TokenizerTests):
    tokenizer = staticmethod(letter)
    settings = {"tokenizer_steps": 5, "tokenizer_batch_size": 50, "rqvae_hidden": [16], "rqvae_latent": 4}


class TestPQ(TokenizerTests):
    tokenizer = staticmethod(pq)


class TestOPQ(TokenizerTests):
    tokenizer = staticmethod(opq)
    settings = {"opq_iterations": 3}


class TestRandom(TokenizerTests):
    tokenizer = staticmethod(random)


def test_the_suite_of_the_page():
    """docs/add_a_tokenizer.md inherits the suite for the tokenizer that it writes."""
    with open(f"{REPOSITORY}/docs/add_a_tokenizer.md", encoding="utf-8") as file:
        function, suite = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
    names = {}
    exec(function, names)
    exec(re.sub("^(from|import) .*\n", "", suite, flags=re.MULTILINE), names | {"TokenizerTests": object}, names)
    assert names["TestQuantiles"].tokenizer is names["quantiles"]
    assert names["TestQuantiles"].settings.keys() <= setting_fields(names["quantiles"]).keys()


class TestLSH(OrderFreeTokenizerTests):
    tokenizer = staticmethod(lsh)


def test_every_tokenizer_is_tested():
    suites = [*TokenizerTests.__subclasses__(), *OrderFreeTokenizerTests.__subclasses__()]
    tested = {suite.tokenizer for suite in suites if suite is not OrderFreeTokenizerTests}
    ours = {find_tokenizer(name) for name in tokenizer_names()}
    assert {function for function in ours if registry.is_ours(function)} == tested


def test_every_setting_of_ours_has_a_sentence_and_a_default_that_it_allows():
    for name in tokenizer_names():
        for key, field in setting_fields(find_tokenizer(name)).items():
            assert field.description.endswith("."), (name, key)
            check_tokenizer_settings({key: field.default})


def test_choices_are_those_that_are_implemented():
    fields = setting_fields(rqvae)
    assert registry.allowed_values(fields["tokenizer_learner"]) == f"must be one of {', '.join(LEARNERS)}"
    assert registry.allowed_values(fields["quantiser_gradient"]) == f"must be one of {', '.join(ESTIMATORS)}"


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("kmeans_iterations", True, "must be a whole number of at least 1"),
        ("kmeans_iterations", 2.0, "must be a whole number of at least 1"),
        ("dead_code_steps", -1, "must be a whole number of at least 0"),
        ("tokenizer_learning_rate", 0, "must be a number above 0"),
        ("tokenizer_learning_rate", float("nan"), "must be a number above 0"),
        ("tokenizer_learning_rate", float("inf"), "must be a number above 0"),
        ("tokenizer_learning_rate", "0.1", "must be a number above 0"),
        ("ema_decay", 1, "must be a number at least 0 and below 1"),
        ("kmeans_balanced", 0, "must be True or False"),
        ("codebook_update", True, "must be one of loss, ema"),
        ("rqvae_hidden", 64, r"must be a list of whole numbers of at least 1, \[\] for a single layer"),
        ("rqvae_hidden", [64, True], r"must be a list of whole numbers of at least 1, \[\] for a single layer"),
    ],
)
def test_values_that_are_not_allowed(key, value, words):
    with pytest.raises(SettingError, match=f"^{key}=.*: {words}$"):
        check_tokenizer_settings({key: value})


def test_values_that_are_allowed():
    check_tokenizer_settings(
        {"rqvae_hidden": [], "ema_decay": 0, "tokenizer_learning_rate": 1, "dead_code_steps": 0, "other": None}
    )


def test_a_tokenizer_without_annotations_has_its_bare_defaults():
    def plain(vectors, codebook_num, codebook_size, *, seed=2020, depth=2, names=("a",)):
        return Quantised(np.zeros((len(vectors), codebook_num), dtype=int))

    fields = setting_fields(plain)
    assert {key: field.default for key, field in fields.items()} == {"depth": 2, "names": ("a",)}
    check_tokenizer_settings({"depth": "anything"}, plain)


def test_settings_are_read_without_heavy_libraries():
    """``import recbole_gr`` itself imports RecBole and torch, so the package is stood in for by its bare folder."""
    code = """
import sys, types
package = types.ModuleType("recbole_gr")
package.__path__ = [sys.argv[1]]
sys.modules["recbole_gr"] = package
from recbole_gr.tokenizers import registry
assert len(registry.all_setting_fields()) > 10
print([name for name in ("torch", "faiss", "sklearn", "scipy", "recbole", "transformers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, f"{REPOSITORY}/recbole_gr"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
