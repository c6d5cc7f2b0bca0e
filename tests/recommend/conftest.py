"""Trained models that the tests of this folder share."""

import json
import logging

import pytest
from support.trained_cases import run_case, settings_of


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Gives the result of a run on the case ``plain`` and its loaded model; each model is trained once."""
    made = {}

    def get(model, **settings):
        key = json.dumps([model, settings], sort_keys=True)
        if key not in made:
            import recbole_gr

            folder = tmp_path_factory.mktemp(model)
            handlers = logging.getLogger().handlers[:]
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                result = run_case(model, folder, **{**settings_of(model), **settings})
                made[key] = result, recbole_gr.load(result["checkpoint"])
            logging.getLogger().handlers[:] = handlers
        return made[key]

    return get
