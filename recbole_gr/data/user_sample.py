"""A fixed random sample of the users of a split, so that validating after every epoch is cheap."""

from typing import Any

import torch


def sample_of_users(loader: Any, n_users: int, seed: int) -> Any:
    """A loader of RecBole for evaluation, over some of the users of another one, with all that these have there.

    It makes no difference to what is drawn elsewhere, and draws the same users whenever it is called.

    Args:
        loader: a ``FullSortEvalDataLoader`` or ``NegSampleEvalDataLoader``.
        n_users: how many users.
        seed: decides which.

    Returns:
        A loader of the same kind; the loader itself if it has no more users than that.
    """
    dataset = loader._dataset
    users = dataset.inter_feat[dataset.uid_field]
    distinct = users.unique()
    if n_users >= len(distinct):
        return loader
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))
    rows = torch.nonzero(torch.isin(users, distinct[order[:n_users]])).squeeze(1)
    return type(loader)(loader.config, dataset.copy(dataset.inter_feat[rows]), loader._sampler, shuffle=False)


def count_users(loader: Any) -> int:
    """How many users a loader has."""
    return len(loader._dataset.inter_feat[loader._dataset.uid_field].unique())
