"""The order of interactions in time, by the full precision of the file."""

import pandas as pd


def sort_by_exact_time(dataset):
    """Sort a dataset's interactions by time before RecBole rounds the time to float32.

    At 8.8e8 seconds neighbouring float32 values are 64 seconds apart, so RecBole's sort leaves interactions closer than
    that in the order of the file. Its sorts are stable, and rounding never swaps two times; so after this sort on the
    float64 values of the file they keep the true order, and only true ties stay in the order of the file.

    Does nothing where the order of time plays no part (``order: RO``), or where the file itself is the split
    (``benchmark_filename``).

    Args:
        dataset (recbole.data.dataset.Dataset): before its conversion, with ``inter_feat`` a pandas.DataFrame.
    """
    by_time = dataset.config["eval_args"]["order"] == "TO" and dataset.benchmark_filename_list is None
    if not by_time or not isinstance(dataset.inter_feat, pd.DataFrame) or dataset.time_field not in dataset.inter_feat:
        return
    time = dataset.inter_feat[dataset.time_field]
    if dataset.time_field in dataset.config["numerical_features"]:
        time = time.str[0]
    order = time.to_numpy(dtype="float64").argsort(kind="stable")
    dataset.inter_feat = dataset.inter_feat.iloc[order].reset_index(drop=True)
