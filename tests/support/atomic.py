"""Atomic files as tables."""

import csv

import pandas as pd


def read_atomic(path):
    """An atomic file as a table of strings, columns named as in its first line."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
