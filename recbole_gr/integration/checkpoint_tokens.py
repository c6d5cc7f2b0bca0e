"""Checkpoints keep the tokens of their items and users, and are loaded by them: for every model of RecBole and of ours.

All that loads a checkpoint ends in ``load_state_dict`` and ``load_other_parameter`` of the model: RecBole's trainer and
``load_data_and_model``, our resuming, and what users write. So these two are what is patched, and ``state_dict``, in which the
tokens go along.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from recbole_gr.utils.errors import DataError

#: RecBole's base classes that are given the dataset.
_BASES = ("GeneralRecommender", "SequentialRecommender", "KnowledgeRecommender", "ContextRecommender")


def keep_tokens(module: Any) -> None:
    """Patch ``recbole.model.abstract_recommender``: RecBole loads the rows of items and users by number."""
    for name in _BASES:
        base = getattr(module, name)
        base.__init__ = _knowing_its_catalogue(base.__init__)
    of_all = module.AbstractRecommender
    of_all.state_dict = _with_tokens(of_all.state_dict)
    of_all.load_state_dict = _by_token(of_all.load_state_dict)
    of_all.load_other_parameter = _parameters_by_token(of_all.load_other_parameter)


def refuse_to_go_on(trainer_module: Any) -> None:
    """Patch ``recbole.trainer.trainer``: the state of an optimizer belongs to the rows as they were."""
    original = trainer_module.Trainer.resume_checkpoint

    @functools.wraps(original)
    def resume_checkpoint(self: Any, resume_file: Any) -> None:
        original(self, resume_file)
        check_same_catalogue(getattr(self.model, "recbole_gr_rows", None), str(resume_file))

    trainer_module.Trainer.resume_checkpoint = resume_checkpoint


def check_same_catalogue(found: tuple[Any, Any] | None, path: str) -> None:
    """Before a state is trained further.

    Args:
        found: where its items and users stand, :func:`~recbole_gr.data.catalogue_match.matching`; None: it does not say.
        path: of the checkpoint, for the error.

    Raises:
        DataError: items or users had other numbers when it was saved.
    """
    if found is not None and not all(rows.same for rows in found):
        moved = " and ".join(f"{rows.kind}s" for rows in found if not rows.same)
        raise DataError(
            f"[{path}] was trained on other {moved}, or in another order, than the files have now; it can be tested and asked "
            "for recommendations, its training not go on"
        )


def _knowing_its_catalogue(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, config: Any, dataset: Any) -> None:
        from recbole_gr.data.catalogue_match import Catalogue

        original(self, config, dataset)
        self.recbole_gr_catalogue = Catalogue.of(dataset)

    return __init__


def _with_tokens(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def state_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        from recbole_gr.data.catalogue_match import add_tokens

        return add_tokens(self, original(self, *args, **kwargs))

    return state_dict


def _by_token(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load_state_dict(self: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        from recbole_gr.data.catalogue_match import matched_state

        return original(self, matched_state(self, state_dict), *args, **kwargs)

    return load_state_dict


def _parameters_by_token(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def load_other_parameter(self: Any, para: Any) -> None:
        from recbole_gr.data.catalogue_match import matched_parameters

        original(self, matched_parameters(self, para))

    return load_other_parameter
