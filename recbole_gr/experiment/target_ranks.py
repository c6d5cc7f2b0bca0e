"""Where every target of the test stood in its user's ranking: all that accuracy metrics can be computed from."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import torch

from recbole_gr.data.seen import interactions_of
from recbole_gr.decoding.item_lists import RankedLists, TopItems
from recbole_gr.tokenizers.measures import quantised_levels
from recbole_gr.tokenizers.semantic_ids import number_groups
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.processes import of_each

#: Scores below it are not log-probabilities; the trainer gives the smallest float32 to items that no beam reached.
MIN_LOG_PROBABILITY = float(np.finfo(np.float32).min) / 2


#: Of one batch, int64 arrays ``[targets]`` by name: ``row``, ``user``, ``item``, ``rank`` and perhaps ``id_rank``.
RanksOfBatch: TypeAlias = dict[str, np.ndarray]


@contextlib.contextmanager
def collect_target_ranks(trainer: Any, depth: int, semantic_ids: np.ndarray | None = None) -> Iterator[list[RanksOfBatch]]:
    """Keep the ranks of the targets while a trainer evaluates, from what its collector is given.

    Args:
        trainer: a RecBole ``Trainer``; its ``evaluate`` is called inside.
        depth: how far down a ranking is looked, the largest k of the metrics.
        semantic_ids: int ``[n_items]``, equal where items share an ID; None: there are no IDs.

    Yields:
        A list that grows by the ranks of each batch.
    """
    collector = trainer.eval_collector
    batches: list[RanksOfBatch] = []
    collect = collector.eval_batch_collect
    user_field = trainer.config["USER_ID_FIELD"]

    def collect_with_ranks(scores: Any, interaction: Any, positive_u: Any, positive_i: Any) -> Any:
        if isinstance(scores, (RankedLists, TopItems)):
            users = interaction[user_field].to(positive_u.device)
            batches.append(_ranks_of_lists(scores, users, positive_u, positive_i, depth=depth, semantic_ids=semantic_ids))
        elif positive_u is not None and scores.dim() == 2:  # AUC and the like have scores of single interactions
            users = interaction[user_field].to(scores.device)
            if len(users) != len(scores):  # a sampled ranking: a user's candidates one behind the other
                users = users.unique_consecutive()
            batches.append(_ranks_of_batch(scores, users, positive_u, positive_i, depth=depth, semantic_ids=semantic_ids))
        return collect(scores, interaction, positive_u, positive_i)

    collector.eval_batch_collect = collect_with_ranks
    try:
        yield batches
    finally:
        del collector.eval_batch_collect


def _ranks_of_batch(
    scores: torch.Tensor,
    users: torch.Tensor,
    positive_u: torch.Tensor,
    positive_i: torch.Tensor,
    *,
    depth: int,
    semantic_ids: np.ndarray | None,
) -> RanksOfBatch:
    rows, items = positive_u.to(scores.device), positive_i.to(scores.device)
    ranks = {"row": rows, "user": users[rows], "item": items, "rank": target_ranks(scores, rows, items, depth)}
    if semantic_ids is not None:
        id_of_item = torch.as_tensor(semantic_ids, device=scores.device)
        ranks["id_rank"] = id_ranks(scores, rows, items, id_of_item, depth=depth)
    return {name: values.cpu().numpy() for name, values in ranks.items()}


def _ranks_of_lists(
    lists: RankedLists | TopItems,
    users: torch.Tensor,
    rows: torch.Tensor,
    items: torch.Tensor,
    *,
    depth: int,
    semantic_ids: np.ndarray | None,
) -> RanksOfBatch:
    """As :func:`_ranks_of_batch`, from what was found instead of the scores of all items."""
    top = lists.top(depth, (rows, items))
    ranks = {"row": rows, "user": users[rows], "item": items, "rank": _first_place(top[rows] == items.unsqueeze(1))}
    if semantic_ids is not None and isinstance(lists, RankedLists):
        id_of_item = torch.as_tensor(semantic_ids, device=rows.device)
        ranks["id_rank"] = id_ranks_of_lists(lists, rows, items, id_of_item, depth=depth)
    return {name: values.cpu().numpy() for name, values in ranks.items()}


def target_ranks(scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, depth: int) -> torch.Tensor:
    """Place of targets in the rankings that RecBole takes its metrics from, counted from 1.

    RecBole's collector calls ``torch.topk``, whose order of equal scores is its own; so it is called here too, with the
    same arguments, and every rank is the one that was measured.

    Args:
        scores: float32 ``[users, n_items]``.
        rows: int64 ``[targets]``, the row of ``scores`` of each target.
        items: int64 ``[targets]``.
        depth: the largest k.

    Returns:
        int64 ``[targets]``; 0 for a target beyond ``depth``.
    """
    ranking = scores.topk(depth, dim=-1).indices[rows]
    return _first_place(ranking == items.unsqueeze(1))


def id_ranks(
    scores: torch.Tensor, rows: torch.Tensor, items: torch.Tensor, semantic_ids: torch.Tensor, *, depth: int
) -> torch.Tensor:
    """Place of the targets' semantic IDs among the distinct IDs of a ranking, as papers count that compare codes.

    An ID stands where its best item does. Excluded items lead to no place for their ID.

    Args:
        scores: float32 ``[users, n_items]``.
        rows: int64 ``[targets]``, the row of ``scores`` of each target.
        items: int64 ``[targets]``.
        semantic_ids: int64 ``[n_items]``, equal where items share an ID.
        depth: the largest k.

    Returns:
        int64 ``[targets]``; 0 for an ID beyond ``depth``, and where no beam reached it.
    """
    n_ids = int(semantic_ids.max()) + 1
    best = scores.new_full((len(scores), n_ids), -torch.inf)
    best.scatter_reduce_(1, semantic_ids.expand(len(scores), -1), scores, reduce="amax")
    found = best[rows]
    own = found.gather(1, semantic_ids[items].unsqueeze(1))
    ranks = (found > own).sum(dim=1) + 1
    return torch.where((ranks > depth) | (own.squeeze(1) < MIN_LOG_PROBABILITY), 0, ranks)


def id_ranks_of_lists(
    lists: RankedLists, rows: torch.Tensor, items: torch.Tensor, semantic_ids: torch.Tensor, *, depth: int
) -> torch.Tensor:
    """As :func:`id_ranks`, of which the scores of what was found are enough.

    Args:
        lists: of the users; with what was left out, nothing stands before the first ``depth`` IDs.
        rows, items, semantic_ids, depth: as in :func:`id_ranks`.
    """
    scores, of_list = lists.scores()[rows], semantic_ids[lists.lists.items][rows]
    if not scores.shape[1]:
        return torch.zeros_like(items)
    own = scores.masked_fill(of_list != semantic_ids[items].unsqueeze(1), -torch.inf).amax(dim=1, keepdim=True)
    better = of_list.masked_fill(scores <= own, -1).sort(dim=1).values
    before = ((better[:, 1:] != better[:, :-1]) & (better[:, 1:] >= 0)).sum(dim=1) + (better[:, 0] >= 0)
    return torch.where((before >= depth) | (own.squeeze(1) == -torch.inf), 0, before + 1)


def _first_place(hits: torch.Tensor) -> torch.Tensor:
    return torch.where(hits.any(dim=1), hits.int().argmax(dim=1) + 1, 0)


def quantised_ids(dataset: Any) -> np.ndarray | None:
    """Which items a tokenizer gave one ID, an appended digit left out: int64 ``[n_items]``, or None without IDs."""
    ids = getattr(dataset, "semantic_ids", None)
    return None if ids is None else np.append(0, 1 + number_groups(ids.codes[1:, : quantised_levels(ids)]))


def gathered_batches(batches: list[RanksOfBatch]) -> list[RanksOfBatch]:
    """With several processes, the batches of all of them; each evaluates its share of the users."""
    return [batch for share in of_each(batches) for batch in share]


def target_ranks_table(batches: list[RanksOfBatch], loaders: Sequence[Any]) -> pd.DataFrame:
    """The target ranks with all that slices need, one row per target.

    Args:
        batches: from :func:`collect_target_ranks`.
        loaders: training, validation and test data.

    Returns:
        ``user_id`` and ``item_id`` (tokens of the data files), ``rank`` and, where there are semantic
        IDs, ``id_rank`` (int32 from 1, missing beyond the depth), ``history_length`` (interactions of the user before
        the test part), ``item_count`` (interactions with the item in the training part, 0 for a cold item). Where users
        have several rankings, as RecBole makes one for each test interaction of a sequential model, ``ranking`` (int32)
        numbers them.
    """
    training, *before_test = [interactions_of(loader._dataset) for loader in loaders[:2]]
    dataset = loaders[0]._dataset
    ranks = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    history_length = np.bincount(
        np.concatenate([training[0], *(users for users, _ in before_test)]), minlength=dataset.user_num
    )
    item_count = np.bincount(training[1], minlength=dataset.item_num)
    table: dict[str, Any] = {
        "user_id": dataset.id2token(dataset.uid_field, ranks["user"]).astype(str),
        "item_id": dataset.id2token(dataset.iid_field, ranks["item"]).astype(str),
    }
    for name in ("rank", "id_rank"):
        if name in ranks:
            table[name] = pd.array(np.where(ranks[name] > 0, ranks[name], -1), dtype="Int32")
            table[name][ranks[name] == 0] = pd.NA
    ranking = _number_rankings(batches)
    if ranking.max() >= len(np.unique(ranks["user"])):
        table["ranking"] = ranking
    table["history_length"] = history_length[ranks["user"]].astype(np.int32)
    table["item_count"] = item_count[ranks["item"]].astype(np.int32)
    return pd.DataFrame(table).sort_values(["user_id", "item_id"], ignore_index=True)


def cold_target_recall(table: pd.DataFrame, topk: Sequence[int]) -> dict[str, float | int]:
    """How often the test's cold targets are found, items without any interaction in the training part.

    Args:
        table: from :func:`target_ranks_table`.
        topk: the k of the metrics.

    Returns:
        ``targets``, how many there are, and where there are some ``recall@k`` for each k: of each ranking that has such targets
        the share that is among its first k, mean over these rankings.
    """
    cold = table[table["item_count"] == 0]
    recall: dict[str, float | int] = {"targets": len(cold)}
    if len(cold):
        keys = [cold[key] for key in ("user_id", "ranking") if key in cold]
        for k in topk:
            found = cold["rank"].le(k).fillna(False).astype(float)
            recall[f"recall@{k}"] = round(float(found.groupby(keys).mean().mean()), 4)
    return recall


def _number_rankings(batches: list[RanksOfBatch]) -> np.ndarray:
    """The ranking of every target, counted from 0: int32 ``[targets]``."""
    number = np.repeat(np.arange(len(batches)), [len(batch["row"]) for batch in batches])
    places = np.stack([number, np.concatenate([batch["row"] for batch in batches])])
    return np.unique(places, axis=1, return_inverse=True)[1].ravel().astype(np.int32)


def write_target_ranks(table: pd.DataFrame, path: str) -> None:
    """Write :func:`target_ranks_table` as parquet, by an atomic write."""
    with atomic_write(path, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pandas(table, preserve_index=False), file, compression="zstd")
