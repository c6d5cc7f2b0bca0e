"""What a trainer of ours ranks, as the matrix of scores that RecBole's metrics would need."""

import torch


def whole_rows(trainer, batch):
    """As RecBole's ``_full_sort_batch_eval``: the batch, its scores ``[users, n_items]``, rows and items of the targets."""
    interaction, ranked, positive_u, positive_i = trainer._full_sort_batch_eval(batch)
    rows = torch.arange(len(ranked), device=positive_u.device)
    return interaction, ranked.whole_rows(rows, (positive_u, positive_i)), positive_u, positive_i
