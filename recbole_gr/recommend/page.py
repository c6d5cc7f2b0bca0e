"""Recommendations as a page that needs no network: users, what they had, what they are given, and the beams of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recbole_gr.data.seen import interactions_of
from recbole_gr.models.semantic_id import SemanticIDRecommender
from recbole_gr.recommend.beam_tree import draw_beams
from recbole_gr.recommend.recommender import PARTS, Asked, Recommender
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.page_look import STYLE

#: The newest items of a history that are shown.
HISTORY_SHOWN = 50

#: What the history is, in words.
HISTORY_WORDS = {
    "all": "everything known",
    "valid": "the training and validation part, as the test has it",
    "train": "the training part",
}

# the browser itself refuses to load anything
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class ShownItem:
    """An item as the page shows it.

    Args:
        token, title, semantic_id: as the files and the model have them; "" where there is none.
        score: the model's; "" in a history.
        hit: whether the user had it later.
    """

    token: str
    title: str
    semantic_id: str
    score: str = ""
    hit: bool = False


@dataclass(frozen=True)
class ShownUser:
    """A user as the page shows them.

    Args:
        name: the user token.
        history: the newest items, the newest first.
        history_length: of all items.
        items: what is recommended, best first.
        later: what the user had after the history, where the split knows it.
        hits: how many of these are recommended.
        certified: whether the list is proven.
    """

    name: str
    history: list[ShownItem]
    history_length: int
    items: list[ShownItem]
    later: list[ShownItem]
    hits: int
    certified: bool


def write_page(
    path: str, recommender: Recommender, asked: Asked, shown: torch.Tensor, history: str, tree_user: str | None
) -> dict[str, int]:
    """Write the page.

    Args:
        path: where to.
        recommender: who recommends.
        asked: what is asked of it.
        shown: int64 ``[n]``, the users of the page.
        history: which part of the split ``asked`` knows, a key of :data:`~recbole_gr.recommend.recommender.PARTS`.
        tree_user: the token of the user whose beams are drawn; None: the first.

    Returns:
        ``users``, ``rows`` and ``certified``, as :func:`~recbole_gr.recommend.export.recommend_to_file` counts them.

    Raises:
        SettingError: ``tree_user`` is none of those asked for, or the model has no beams over codes.
        OSError: it cannot be written.
    """
    drawn_user = _tree_user(recommender, asked, shown, tree_user)
    users = _shown_users(recommender, asked, shown, history)
    tree = None
    if drawn_user is not None:
        one = torch.tensor([drawn_user])
        excluded = asked.histories.rows_and_items(one, recommender.item_list) if asked.exclude_seen else None
        tree = draw_beams(recommender.model, recommender.batch_of(one, asked), excluded, asked.allowed)
    config = recommender.trained.config
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=f"{config['model']} on {config['dataset']}",
            policy=POLICY,
            style=Markup(STYLE + _source("page.css")),
            script=Markup(_source("page.js")),
            users=users,
            n_users=len(asked.users),
            history_words=HISTORY_WORDS[history],
            exclude_seen=asked.exclude_seen,
            knows_later=PARTS[history] < len(PARTS),
            tree=tree,
            tree_user="" if drawn_user is None else recommender.user_tokens[drawn_user],
            beam_size=getattr(recommender.model, "beam_size", 0),
            catalogue=recommender.catalogue,
        )
    )
    with atomic_write(path) as file:
        file.write(page)
    return {
        "users": len(users),
        "rows": sum(len(user.items) for user in users),
        "certified": sum(user.certified for user in users),
    }


def _tree_user(recommender: Recommender, asked: Asked, shown: torch.Tensor, tree_user: str | None) -> int | None:
    """The id of the user whose beams are drawn; None where the model has no beams over codes."""
    has_beams = isinstance(recommender.model, SemanticIDRecommender)
    if tree_user is None:
        return int(shown[0]) if has_beams and len(shown) else None
    if not has_beams:
        model = recommender.trained.config["model"]
        raise SettingError(
            "tree_user", tree_user, f"{model} does not search semantic IDs by beams: there is no tree to draw"
        )
    user = recommender.dataset.field2token_id[recommender.dataset.uid_field].get(tree_user, 0)
    if not (asked.users == user).any():
        raise SettingError("tree_user", tree_user, "is none of the users that are recommended for")
    return user


def _shown_users(recommender: Recommender, asked: Asked, shown: torch.Tensor, history: str) -> list[ShownUser]:
    later: dict[int, list[int]] = {}
    for part in recommender.trained.parts[PARTS[history] :]:
        for user, item in zip(*(column.tolist() for column in interactions_of(part)), strict=True):
            later.setdefault(user, []).append(item)
    users = []
    for start in range(0, len(shown), 64):
        some = shown[start : start + 64]
        lists = recommender.lists(some, asked)
        rows, had = asked.histories.rows_and_items(some, recommender.item_list)
        for row, user in enumerate(some.tolist()):
            items, targets = had[rows == row].tolist(), list(dict.fromkeys(later.get(user, ())))
            best = [item for item in lists.items[row].tolist() if item]
            scores = lists.scores[row].tolist()
            users.append(
                ShownUser(
                    name=recommender.user_tokens[user],
                    history=[_item(recommender, item) for item in items[::-1][:HISTORY_SHOWN]],
                    history_length=len(items),
                    items=[
                        _item(recommender, item, f"{score:.4f}", item in targets)
                        for item, score in zip(best, scores, strict=False)
                    ],
                    later=[_item(recommender, item, hit=item in best) for item in targets],
                    hits=len({*targets} & {*best}),
                    certified=bool(lists.certified[row]),
                )
            )
    return users


def _item(recommender: Recommender, item: int, score: str = "", hit: bool = False) -> ShownItem:
    catalogue = recommender.catalogue
    return ShownItem(
        catalogue.tokens[item], catalogue.titles[item] or "", catalogue.semantic_ids[item] or "", score=score, hit=hit
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("recbole_gr.recommend"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    """A file that comes with the templates, as it is."""
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]
