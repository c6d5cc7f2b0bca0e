"""A trained model that recommends: ``recbole_gr.load(checkpoint).recommend(users=[...])``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_gr.data.histories import Histories, histories_of, histories_of_items, users_alone
from recbole_gr.integration.trained import TrainedModel, load_trained_model
from recbole_gr.models.base import GenerativeRecommender
from recbole_gr.models.rankings import TopLists, known_user, top_lists
from recbole_gr.recommend.catalogue import Catalogue
from recbole_gr.recommend.tokens import matched
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

#: Scores of all users of a batch, which is all that is alive of them.
SCORES_AT_ONCE = PerDevice(cpu=1 << 22, cuda=1 << 26)
MOST_USERS_AT_ONCE = 2048

#: How many parts of a split a history is made of.
PARTS = {"train": 1, "valid": 2, "all": 3}

#: The columns of what is recommended.
COLUMNS = ("user", "rank", "item", "title", "score", "semantic_id", "certified")


def load(checkpoint: str) -> Recommender:
    """Load a checkpoint, of ours or of RecBole's models, to recommend with it.

    Args:
        checkpoint: what a run saved, ``saved/TIGER-....pth``.

    Raises:
        RecBoleGRError: it cannot be loaded, or does not fit its data as they are now; one line.
    """
    return Recommender(load_trained_model(checkpoint))


@dataclass(frozen=True)
class Asked:
    """What is asked of a model.

    Args:
        users: int64 ``[n]``, which entries of ``histories``; for a known user its id.
        histories: what they had.
        k: items per user.
        exclude_seen: whether what is in a history is not recommended.
        allowed: bool ``[n_items]``, what may be recommended; None: all.
        known: whether the users are those of the dataset.
    """

    users: torch.Tensor
    histories: Histories
    k: int
    exclude_seen: bool
    allowed: torch.Tensor | None
    known: bool = True


class Recommender:
    """Recommends by a trained model.

    Args:
        trained: the model, its settings and its data.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained, self.model, self.dataset = trained, trained.model, trained.dataset
        self.item_list = f"{self.dataset.iid_field}{trained.config['LIST_SUFFIX']}"

    @cached_property
    def catalogue(self) -> Catalogue:
        """How items are shown."""
        return Catalogue(self.trained.config, self.dataset, self.model)

    @cached_property
    def user_tokens(self) -> np.ndarray:
        """str ``[n_users]``, the user token per RecBole user id; entry 0 is padding."""
        return self.dataset.field2id_token[self.dataset.uid_field].astype(str).astype(object)

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        *,
        histories: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        history: str = "all",
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
    ) -> pd.DataFrame:
        """The best items of some users, or for some histories of nobody known.

        Args:
            users: user tokens; None, where there are no ``histories`` either: all users.
            histories: item tokens of each history, oldest first; a model that has learned of each user cannot read them.
            k: items per user; fewer where there are not so many that may be recommended.
            history: what is known of the users: ``all``; ``train``, the training part; ``valid``, the training and validation part, as the
                test has it.
            exclude_seen: whether what is in the history is not recommended.
            candidates: item tokens; nothing else is recommended. None: all items.

        Returns:
            Columns ``user`` (token; the number of the history, from 0, where ``histories`` are given), ``rank`` (from 1), ``item`` (token),
            ``title`` and ``semantic_id`` (None where there are none), ``score`` (the model's own), ``certified`` (whether the user's list is
            proven to be that of scoring every item).

        Raises:
            RecBoleGRError: nothing of what is named is known, or the model needs what is not there; one line.
        """
        asked = self.asked(
            users, histories=histories, k=k, history=history, exclude_seen=exclude_seen, candidates=candidates
        )
        names = self.user_tokens if asked.known else np.arange(len(asked.histories.lengths))
        frames = [self.table(names[numbers.numpy()], lists) for numbers, lists in self.batches(asked)]
        return pd.concat(frames, ignore_index=True)

    def asked(
        self,
        users: Sequence[Any] | None = None,
        *,
        histories: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        history: str = "all",
        exclude_seen: bool = True,
        candidates: Sequence[Any] | None = None,
    ) -> Asked:
        """What is to be computed, in numbers. Arguments and errors are those of :meth:`recommend`."""
        if type(k) is not int or k < 1:
            raise SettingError("k", k, "must be a whole number of at least 1")
        if history not in PARTS:
            raise SettingError("history", history, f"must be one of {', '.join(PARTS)}")
        allowed = None
        if candidates is not None:
            items = matched(candidates, self.dataset.field2token_id[self.dataset.iid_field], "items", "of candidates")
            allowed = torch.zeros(self.dataset.item_num, dtype=torch.bool)
            allowed[torch.from_numpy(items)] = True
        if histories is not None:
            if users is not None:
                raise RecBoleGRError("users and histories are both given; a history of nobody known has no user")
            made, numbers = self._new_histories(histories)
            return Asked(numbers, made, k, exclude_seen, allowed, known=False)
        if history == "valid":
            self._warn_of_other_exclusion(exclude_seen)
        made = histories_of(self.trained.parts[: PARTS[history]])
        return Asked(self._known_users(users, made, history), made, k, exclude_seen, allowed)

    def _warn_of_other_exclusion(self, exclude_seen: bool) -> None:
        """Lists from the test's history are taken for those that were measured."""
        mask_seen = self.trained.config["mask_seen"]
        excluded = mask_seen is True or mask_seen is not False and not self.trained.is_sequential
        if excluded != exclude_seen:
            getLogger().warning(
                f"exclude_seen={exclude_seen}, but the run was measured with mask_seen={mask_seen}: these lists are not those of its "
                f"test, which exclude_seen={excluded} gives."
            )

    def _known_users(self, users: Sequence[Any] | None, histories: Histories, history: str) -> torch.Tensor:
        if users is None:
            chosen = torch.arange(1, self.dataset.user_num)
        else:
            ids = self.dataset.field2token_id[self.dataset.uid_field]
            chosen = torch.from_numpy(matched(users, ids, "users", "to recommend for"))
        if not self.trained.is_sequential:
            return chosen
        empty = histories.lengths[chosen] == 0
        if empty.any():
            named = ", ".join(self.user_tokens[chosen[empty][:5].numpy()])
            line = f"{int(empty.sum())} of {len(chosen)} users have no history with history={history}, e.g. {named}"
            if empty.all():
                raise DataError(f"{line}; {self.trained.config['model']} reads histories")
            getLogger().warning(f"{line}; they are left out.")
        return chosen[~empty]

    def _new_histories(self, histories: Sequence[Sequence[Any]]) -> tuple[Histories, torch.Tensor]:
        name = self.trained.config["model"]
        if not self.trained.is_sequential:
            raise DataError(f"{name} reads no histories: it has learned of each user, and needs a known one (users=...)")
        if isinstance(histories, str) or any(isinstance(one, str) for one in histories):
            raise SettingError("histories", histories, 'must be a list of lists of item tokens, [["i1", "i2"], ...]')
        ids = self.dataset.field2token_id[self.dataset.iid_field]
        matched([token for one in histories for token in one], ids, "items", "of the histories")
        known = [[ids[str(token)] for token in one if ids.get(str(token), 0) > 0] for one in histories]
        made = histories_of_items(known, self.item_list)
        numbers = torch.nonzero(made.lengths > 0).squeeze(1)
        if len(numbers) < len(known):
            getLogger().warning(
                f"{len(known) - len(numbers)} of {len(known)} histories hold no known item and are left out."
            )
        return made, numbers

    def batches(self, asked: Asked) -> Iterator[tuple[torch.Tensor, TopLists]]:
        """Users and their lists, batch by batch; memory holds the scores of one batch.

        Args:
            asked: from :meth:`asked`.

        Yields:
            int64 ``[b]``, a part of ``asked.users`` in its order; their lists, on the CPU.
        """
        kind = torch.device(self.trained.config["device"]).type
        at_once = max(1, min(MOST_USERS_AT_ONCE, SCORES_AT_ONCE[kind] // self.dataset.item_num))
        if isinstance(self.model, GenerativeRecommender):  # which makes no scores of all items for all users of a batch
            at_once = MOST_USERS_AT_ONCE
            self.model.expect(len(asked.users))
        for users in asked.users.split(at_once):
            yield users, self.lists(users, asked)
        if stopped := getattr(self.model, "certificates", {}).get("stopped_by_budget"):
            getLogger().warning(
                f"{stopped:,} of {len(asked.users):,} lists are not proven: certify_budget={self.model.certify_budget} ended the search."
            )

    def lists(self, users: torch.Tensor, asked: Asked) -> TopLists:
        """The lists of a batch of users, on the CPU."""
        interaction, excluded = self.batch_of(users, asked), None
        if asked.exclude_seen:
            excluded = asked.histories.rows_and_items(users, self.item_list)
        with known_user(self.trained.config["model"], interaction, self.dataset):
            lists = top_lists(self.model, interaction, self.dataset, asked.k, excluded=excluded, allowed=asked.allowed)
        return TopLists(lists.items.cpu(), lists.scores.cpu(), lists.certified.cpu())

    def batch_of(self, users: torch.Tensor, asked: Asked) -> Any:
        """Some users as the model reads them, an ``Interaction`` of RecBole's."""
        loader = self.trained.loaders[2]
        if not self.trained.is_sequential:
            return users_alone(self.dataset, users)
        interaction = asked.histories.interaction(self.dataset, users, known=asked.known)
        return loader.transform(self.dataset, interaction)

    def table(self, names: np.ndarray, lists: TopLists) -> pd.DataFrame:
        """Lists as rows of :data:`COLUMNS`.

        Args:
            names: ``[users]``, what stands in the column ``user``.
            lists: of the same users.
        """
        rows, columns = (index.numpy() for index in torch.nonzero(lists.items > 0, as_tuple=True))
        items = lists.items.numpy()[rows, columns]
        values = (
            names[rows],
            (columns + 1).astype(np.int32),
            self.catalogue.tokens[items],
            self.catalogue.titles[items],
            lists.scores.numpy()[rows, columns].astype(np.float32),
            self.catalogue.semantic_ids[items],
            lists.certified.numpy()[rows],
        )
        return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
