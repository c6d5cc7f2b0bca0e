"""Checks of single settings; each failure is one line that names the key, the value and what is allowed."""

import math

from recbole_gr.utils.errors import SettingError


def check_choice(key, value, allowed):
    """The value must be one of ``allowed``, of the same type: 1 is not True."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise SettingError(key, value, f"must be one of {', '.join(map(str, allowed))}")


def check_switch(key, value):
    """The value must be True or False."""
    if not isinstance(value, bool):
        raise SettingError(key, value, "must be True or False")


def check_whole_number(key, value, least):
    """The value must be an int of at least ``least``."""
    if type(value) is not int or value < least:
        raise SettingError(key, value, f"must be a whole number of at least {least}")


def check_codes_of_bits(codebook_size):
    """Codes of which each bit is found by itself, or that are kept in bits, are 2, 4, 8, ... up to 65536."""
    if type(codebook_size) is not int or not 2 <= codebook_size <= 1 << 16 or codebook_size & (codebook_size - 1):
        raise SettingError("codebook_size", codebook_size, "must be a power of two from 2 to 65536")


def check_number(key, value, above=None, least=None, below=None, most=None):
    """The value must be a finite number within the bounds that are given."""
    bounds = {"above": above, "at least": least, "below": below, "at most": most}
    words = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)
    fits = type(value) in (int, float) and math.isfinite(value)
    fits = fits and (above is None or value > above) and (least is None or value >= least)
    if not fits or (below is not None and value >= below) or (most is not None and value > most):
        raise SettingError(key, value, f"must be a number {words}")
