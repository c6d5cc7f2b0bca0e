"""Users and items that are left when all with few interactions are taken away, again and again."""

import numpy as np


def k_core(chunks, n_users, n_items, core):
    """The k-core: the largest set in which every user and every item has at least ``core`` interactions.

    Memory grows with users and items, not with interactions. Interactions of one user with one item count each.

    Args:
        chunks (callable): returns an iterator over ``(users, items)``, two int arrays of equal length; it is called
            once a round.
        n_users, n_items (int): how many there are; all codes are below.
        core (int): 0 keeps all.

    Returns:
        tuple: bool ``[n_users]`` and ``[n_items]``, who is kept.
    """
    users, items = np.ones(n_users, dtype=bool), np.ones(n_items, dtype=bool)
    while core > 0:
        of_users, of_items = np.zeros(n_users, dtype=np.int64), np.zeros(n_items, dtype=np.int64)
        for user, item in chunks():
            kept = users[user] & items[item]
            of_users += np.bincount(user[kept], minlength=n_users)
            of_items += np.bincount(item[kept], minlength=n_items)
        few_users, few_items = users & (of_users < core), items & (of_items < core)
        if not few_users.any() and not few_items.any():
            break
        users &= ~few_users
        items &= ~few_items
    return users, items
