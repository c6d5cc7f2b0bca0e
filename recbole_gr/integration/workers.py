"""What RecBole's spawned worker processes run; importing this module makes our models known there."""

from typing import Any


def run_recboles(rank: int, *args: Any) -> None:
    """RecBole's ``run_recboles``, in a process in which our models are known."""
    from recbole.quick_start import quick_start

    quick_start.recboles_run_recboles(rank, *args)
