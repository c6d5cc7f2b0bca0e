"""The published size of data sets, to compare with."""

from logging import getLogger

#: Users, items and interactions by data set and core; None where the publishers do not tell.
#: Amazon 2014: the tables of S3-Rec (CIKM 2020) and TIGER (NeurIPS 2023); MovieLens: the README files of GroupLens.
PUBLISHED = {
    ("amazon-beauty-2014", 5): (22_363, 12_101, 198_502),
    ("amazon-sports-2014", 5): (35_598, 18_357, 296_337),
    ("amazon-toys-2014", 5): (19_412, 11_924, 167_597),
    ("movielens-100k", 0): (943, 1_682, 100_000),
    ("movielens-1m", 0): (6_040, 3_706, 1_000_209),
    ("movielens-20m", 0): (138_493, 26_744, 20_000_263),
    ("movielens-32m", 0): (200_948, None, 32_000_204),
}


def compare_with_published(dataset, core, counted):
    """Log a warning that names each difference from the published size.

    Args:
        dataset (str): its usual name.
        core (int): of the k-core filter; where sizes are published for another core, nothing is compared.
        counted (tuple): users, items, interactions.

    Returns:
        str: in words, how the comparison came out.
    """
    published = PUBLISHED.get((dataset, core))
    if published is None:
        return f"not known for {dataset} with core={core}"
    differences = [
        f"{ours:,} {name} instead of {theirs:,}"
        for name, ours, theirs in zip(("users", "items", "interactions"), counted, published)
        if theirs is not None and ours != theirs
    ]
    if not differences:
        return "the same"
    getLogger().warning(f"{dataset} has not the size that was published: {', '.join(differences)}")
    return f"differs: {', '.join(differences)}"
