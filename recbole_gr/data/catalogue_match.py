"""Items and users by token: the rows of a saved state, put in the order of the catalogue that it is loaded for.

RecBole numbers items and users in the order in which it meets them, so a file that was sorted anew, or another filter, gives the same
item another number. A state keeps the tokens it was trained on beside the versions of its modules (``state_dict._metadata``), which
RecBole alone, torch and readers without code of ours pass over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from recbole_gr.utils.cache import digest
from recbole_gr.utils.errors import DataError

#: Under this name the tokens stand in the metadata of a state.
TOKENS = "recbole_gr_tokens"
#: Layers of RecBole with a table for the values of columns, whose numbers change with the catalogue too.
_FEATURE_LAYERS = ("FeatureSeqEmbLayer", "ContextSeqEmbLayer", "FMEmbedding", "FLEmbedding", "FMFirstOrderLinear")
#: Attributes of RecBole's models of entities and of attributes.
_FEATURE_COUNTS = ("n_entities", "n_relations", "n_attributes")
#: Rows that a table of items may have beside those of the items, at its end: of a mask token.
_EXTRA_ROWS = (0, 1, 2)
_NAMED = 3


@dataclass(frozen=True)
class Catalogue:
    """The tokens of a dataset by RecBole's numbers.

    Args:
        items, users: str ``[n_items]``, ``[n_users]``; entry 0 is padding.
        columns: a digest of the values of the other columns, by their numbers.
    """

    items: np.ndarray
    users: np.ndarray
    columns: str

    @classmethod
    def of(cls, dataset: Any) -> Catalogue | None:
        """That of a dataset; None where it has no users and items."""
        known = getattr(dataset, "field2id_token", {})
        if dataset.uid_field not in known or dataset.iid_field not in known:
            return None
        others = {field: tokens for field, tokens in known.items() if field not in (dataset.uid_field, dataset.iid_field)}
        columns = digest({field: np.asarray(tokens).astype(str) for field, tokens in others.items()})
        return cls(known[dataset.iid_field].astype(str), known[dataset.uid_field].astype(str), columns)

    def as_metadata(self) -> dict[str, Any]:
        """As plain values, which readers of tensors read."""
        return {"items": self.items.tolist(), "users": self.users.tolist(), "columns": self.columns}


@dataclass(frozen=True)
class Rows:
    """Where the items, or the users, of this catalogue stand in a saved state.

    Args:
        kind: ``item`` or ``user``.
        here: their tokens, str ``[n]``.
        place: int64 ``[n]``, the row in the state; -1 for those that it does not know.
        n_saved: rows of the state.
    """

    kind: str
    here: np.ndarray
    place: np.ndarray
    n_saved: int

    @classmethod
    def found(cls, kind: str, here: np.ndarray, saved: Iterable[str]) -> Rows:
        """Match by token."""
        index = pd.Index(np.asarray(list(saved), dtype=object))
        return cls(kind, here, index.get_indexer(pd.Index(here.astype(object))), len(index))

    @property
    def same(self) -> bool:
        """Whether nothing has to be moved."""
        return self.n_saved == len(self.place) and bool((self.place == np.arange(len(self.place))).all())

    @property
    def unknown(self) -> np.ndarray:
        """Tokens that the state does not know."""
        return self.here[self.place < 0]

    @property
    def left_out(self) -> int:
        """How many of the state this catalogue lacks."""
        return self.n_saved - int((self.place >= 0).sum())

    def taken(self, saved: torch.Tensor, axis: int, fresh: torch.Tensor) -> torch.Tensor:
        """A saved tensor with its rows along an axis in the order of this catalogue, those that it lacks from ``fresh``."""
        extra = saved.shape[axis] - self.n_saved
        place = torch.from_numpy(np.append(self.place, self.n_saved + np.arange(extra))).to(saved.device)
        taken = saved.index_select(axis, place.clamp(min=0))
        if (place < 0).any():
            unknown = torch.nonzero(place < 0).squeeze(1)
            taken.index_copy_(axis, unknown, fresh.to(saved.device, saved.dtype).index_select(axis, unknown))
        return taken


def add_tokens(model: Any, state: Any) -> Any:
    """Put the tokens of a model's catalogue beside its state, and return it."""
    catalogue = getattr(model, "recbole_gr_catalogue", None)
    if catalogue is not None and hasattr(state, "_metadata"):
        state._metadata[TOKENS] = catalogue.as_metadata()
    return state


def saved_tokens(state: Any) -> dict[str, Any] | None:
    """The tokens that a state was trained on: lists of str ``items`` and ``users``; None where it keeps none."""
    tokens = (getattr(state, "_metadata", None) or {}).get(TOKENS)
    if not isinstance(tokens, dict) or not all(isinstance(tokens.get(kind), list) for kind in ("items", "users")):
        return None
    return tokens


def matching(model: Any, state: Any) -> tuple[Rows, Rows] | None:
    """Where this catalogue's items and users stand in a state; None where the state or the model does not say what it knows.

    Raises:
        DataError: none of the items is known.
    """
    here, saved = getattr(model, "recbole_gr_catalogue", None), saved_tokens(state)
    if here is None or saved is None:
        return None
    items, users = Rows.found("item", here.items, saved["items"]), Rows.found("user", here.users, saved["users"])
    if not (items.place[1:] >= 0).any():
        raise DataError(
            f"the checkpoint was trained on another catalogue: none of its {items.n_saved - 1:,} items "
            f"({some_of(saved['items'][1:])}) is among the {len(here.items) - 1:,} here ({some_of(here.items[1:])})"
        )
    if not (items.same and users.same) or saved.get("columns") != here.columns:
        _refuse_models_of_columns(model)
    return items, users


def matched_state(model: Any, state: Any) -> Any:
    """A state as it is to be loaded into a model: each item's and each user's row where this catalogue has it.

    Args:
        model: which state it is to be, with the shapes of this catalogue.
        state: of the same model on a catalogue that shares items with this one. It is not changed.

    Returns:
        The state itself where nothing has to be moved, or where it keeps no tokens.

    Raises:
        DataError: nothing matches, or it cannot be told which numbers of the model are of items or users.
    """
    if (saved_tokens(state) or {}).get("matched"):  # by a class of the model that looks at the state before torch does
        return state
    found = matching(model, state)
    model.recbole_gr_rows = found
    if found is None or all(rows.same for rows in found):
        return state
    fresh, moved = _own_state(model), OrderedDict(state)
    touched = {"item": False, "user": False}
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and name in fresh:
            for rows, axis in _axes(model, name, value, fresh[name], found):
                value = rows.taken(value, axis, _fitting(name, fresh[name], value, axis))
                touched[rows.kind] = True
            moved[name] = value
    for rows in found:
        if touched[rows.kind] or rows.kind == "item":
            _report(rows)
    moved._metadata = OrderedDict(state._metadata)  # type: ignore[attr-defined]
    moved._metadata[TOKENS] = {**model.recbole_gr_catalogue.as_metadata(), "matched": True}  # type: ignore[attr-defined]
    return moved


def with_value(state: Any, name: str, value: torch.Tensor) -> Any:
    """A state with one more value; what it says of itself goes along."""
    more = OrderedDict(state)
    more[name] = value
    if hasattr(state, "_metadata"):
        more._metadata = state._metadata  # type: ignore[attr-defined]
    return more


def matched_parameters(model: Any, parameters: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """As :func:`matched_state`, for what a model of RecBole keeps beside its state, with what the last state was trained on.

    Raises:
        DataError: a value is neither numbers nor None.
    """
    found = getattr(model, "recbole_gr_rows", None)
    if not parameters or found is None or all(rows.same for rows in found):
        return parameters
    return {name: _matched_parameter(model, name, value, found) for name, value in parameters.items()}


def _matched_parameter(model: Any, name: str, value: Any, found: tuple[Rows, Rows]) -> Any:
    if value is None or not getattr(value, "shape", ()):
        if value is None or isinstance(value, (int, float, torch.Tensor, np.generic)):
            return value
        raise DataError(_cannot(model, f"{name} of the checkpoint cannot be matched by token"))
    for axis, length in enumerate(value.shape):
        fitting = [rows for rows in found if rows.n_saved == length]
        if len(fitting) > 1 and not all(rows.same for rows in fitting):
            fitting = [rows for rows in fitting if rows.kind in name]
            if len(fitting) != 1:
                raise DataError(_cannot(model, f"{name} {list(value.shape)} may be of users or of items"))
        if fitting and not fitting[0].same:
            value = _taken_of_any(value, fitting[0], axis)
    return value


def _taken_of_any(value: Any, rows: Rows, axis: int) -> Any:
    """Rows of a tensor, an array or a sparse matrix; zeros for those that are unknown."""
    if isinstance(value, torch.Tensor):
        shape = list(value.shape)
        shape[axis] = len(rows.place)
        return rows.taken(value, axis, torch.zeros(shape, dtype=value.dtype))
    known = (rows.place >= 0).astype(np.float32)
    place = rows.place.clip(min=0)
    if isinstance(value, np.ndarray):
        taken = np.take(value, place, axis=axis)
        factors = known.reshape([-1 if other == axis else 1 for other in range(value.ndim)]).astype(taken.dtype)
        return np.multiply(taken, factors)  # of a numpy matrix, * is another product
    from scipy import sparse

    kept = value.tocsr()[place] if axis == 0 else value.tocsc()[:, place]
    factor = sparse.diags(known).astype(value.dtype)
    return (factor @ kept if axis == 0 else kept @ factor).asformat(value.format)


def _axes(
    model: nn.Module, name: str, saved: torch.Tensor, fresh: torch.Tensor, found: tuple[Rows, Rows]
) -> Iterator[tuple[Rows, int]]:
    """Along which axes a tensor of the state has a row for each item or user, where those have to be moved."""
    items, users = found
    of_items, of_users = getattr(model, "item_rows", None), getattr(model, "user_rows", ())
    if of_items is not None:  # a model that says which they are
        if name in of_items or name in of_users:
            rows = items if name in of_items else users
            if not rows.same:
                yield rows, 0
            return
        if "item" not in name.lower():
            return
    if saved.dim() != fresh.dim():
        return
    for axis in _possible_axes(model, name, saved):
        here = [rows for rows in found if _fits(rows, name, saved.shape[axis], fresh.shape[axis])]
        if not here or all(rows.same for rows in here):
            continue
        called = [rows for rows in here if rows.kind in name.lower()]
        if len(here) > 1 and len(called) != 1:
            raise DataError(_cannot(model, f"{name} {list(saved.shape)} may be of users or of items"))
        rows = called[0] if called else here[0]
        if rows.same:
            continue
        if not called and rows.n_saved == len(rows.place) and rows.n_saved in _other_sizes(model):
            count = f"the {rows.n_saved} {rows.kind}s, padding included"
            raise DataError(_cannot(model, f"{name} {list(saved.shape)} may be of {count}, or of something else"))
        yield rows, axis
    _refuse_joined(model, name, saved, found)


def _fits(rows: Rows, name: str, saved: int, fresh: int) -> bool:
    extra = saved - rows.n_saved
    return extra == fresh - len(rows.place) and extra in (_EXTRA_ROWS if rows.kind in name.lower() else (0,))


def _possible_axes(model: nn.Module, name: str, saved: torch.Tensor) -> range:
    """Those that can be of items or users: rows of an embedding, both sides of a linear layer, and of free parameters."""
    module = model.get_submodule(name.rpartition(".")[0])
    if isinstance(module, nn.Embedding):
        return range(0) if "position" in name.lower() else range(1)
    if isinstance(module, nn.Linear) or not type(module).__module__.startswith("torch.nn"):
        return range(saved.dim())
    return range(0)


def _other_sizes(model: nn.Module) -> set[int]:
    """Numbers that the model is made of and that are none of items or users, as far as can be seen."""
    own = {
        value
        for key, value in vars(model).items()
        if type(value) is int and not any(word in key.lower() for word in ("item", "user", "token"))
    }
    return own | {module.embedding_dim for module in model.modules() if isinstance(module, nn.Embedding)}


def _refuse_joined(model: nn.Module, name: str, saved: torch.Tensor, found: tuple[Rows, Rows]) -> None:
    if saved.dim() and saved.shape[0] == sum(rows.n_saved for rows in found):
        raise DataError(_cannot(model, f"{name} {list(saved.shape)} holds users and items in one table"))


def _refuse_models_of_columns(model: nn.Module) -> None:
    has_layer = any(type(module).__name__ in _FEATURE_LAYERS for module in model.modules())
    if has_layer or any(hasattr(model, count) for count in _FEATURE_COUNTS):
        raise DataError(_cannot(model, "it embeds columns of the files or entities, whose numbers changed with it"))


def _cannot(model: nn.Module, reason: str) -> str:
    return (
        f"the checkpoint of {type(model).__name__} was trained on another order of items or users than the files have now, "
        f"and cannot be matched by token: {reason}"
    )


def _own_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model without what a class of its own makes of it."""
    return nn.Module.state_dict(model)


def _fitting(name: str, fresh: torch.Tensor, saved: torch.Tensor, axis: int) -> torch.Tensor:
    """The rows of a fresh model as wide as those of a state, cut or filled up by zeros where they are not."""
    shape = list(saved.shape)
    shape[axis] = fresh.shape[axis]
    if list(fresh.shape) == shape:
        return fresh
    fitted = fresh.new_zeros(shape)
    both = tuple(slice(0, min(a, b)) for a, b in zip(shape, fresh.shape, strict=True))
    fitted[both] = fresh[both]
    return fitted


def _report(rows: Rows) -> None:
    if len(rows.unknown):
        getLogger().warning(
            f"The checkpoint does not know {len(rows.unknown):,} of the {len(rows.here) - 1:,} {rows.kind}s here "
            f"({some_of(rows.unknown)}); of them nothing was learned."
        )
    if rows.left_out:
        getLogger().info(
            f"{rows.left_out:,} of the {rows.n_saved - 1:,} {rows.kind}s of the checkpoint are not in the dataset as it is now."
        )


def some_of(tokens: Any) -> str:
    """The first of some tokens, to name them in a line."""
    return ", ".join(str(token) for token in tokens[:_NAMED]) + (", ..." if len(tokens) > _NAMED else "")
