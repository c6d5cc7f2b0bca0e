"""One style of arguments for all commands: ``--key=value`` and ``--key value``, ``-`` and ``_`` alike."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from recbole_gr.utils.errors import RecBoleGRError

#: Keys of RecBole that are written with a hyphen; of all others a hyphen is an underscore.
HYPHENATED = {"time_aware": "time-aware"}

#: The help says it too.
STYLE = "settings are written --key=value or --key value"


@dataclass(frozen=True)
class Arguments:
    """What stands after the name of a command.

    Args:
        positional: arguments without a key, in their order.
        given: values by key, all of them text; a flag has the value ``"True"``.
        flags: those of ``given`` that were written without a value.
    """

    positional: list[str]
    given: dict[str, str]
    flags: frozenset[str] = frozenset()

    def normalised(self, *, bare_flags: bool = False) -> list[str]:
        """The same arguments, each as ``--key=value``; the positional ones first.

        Args:
            bare_flags: write flags as argparse wants them, without a value.
        """
        bare = self.flags if bare_flags else ()
        keyed = [f"--{key}" if key in bare else f"--{key}={value}" for key, value in self.given.items()]
        return [*self.positional, *keyed]


def read_arguments(arguments: Sequence[str], flags: Collection[str] = (), most: int = 0) -> Arguments:
    """Read what stands after the name of a command.

    Args:
        arguments: as the shell splits them. A value may contain ``=`` and may begin with one ``-``, as ``-1`` does.
        flags: keys that may stand without a value.
        most: how many arguments without a key there may be.

    Raises:
        RecBoleGRError: an argument that would have to be ignored, or a key that is given twice.
    """
    positional: list[str] = []
    given: dict[str, str] = {}
    bare = set()
    waiting = list(reversed(arguments))
    while waiting:
        argument = waiting.pop()
        name, equals, value = argument.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        key = HYPHENATED.get(key, key)
        if not argument.startswith("-") and len(positional) < most:
            positional.append(argument)
            continue
        if not argument.startswith("--") or not key:
            raise RecBoleGRError(f"argument {argument!r}: {STYLE}")
        if not equals and key in flags:
            bare.add(key)
            value = "True"
        elif not equals:
            if not waiting or waiting[-1].startswith("--"):
                raise RecBoleGRError(f"argument {argument!r} has no value: {STYLE}")
            value = waiting.pop()
        if key in given:
            raise RecBoleGRError(f"argument {argument!r}: {key} is given twice")
        given[key] = value
    return Arguments(positional, given, frozenset(bare))
