"""One page on a catalogue's semantic IDs: measures, plots, and items that share a prefix."""

import json
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from recbole_gr.tokenizers.measures import NEIGHBOURS, quantised_levels
from recbole_gr.tokenizers.semantic_ids import SemanticIDs, number_groups
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.page_look import STYLE

EXAMPLE_GROUPS, ITEMS_OF_A_GROUP, LETTERS_OF_A_TEXT = 12, 6, 110
EXAMPLE_DEPTH = 2
SEED = 2020


def write_report(path: str, name: str, ids: SemanticIDs, measures: dict[str, Any], *, item_names: Sequence[str]) -> None:
    """Write the page, a single HTML file that needs no network.

    Args:
        path: where to.
        name: of the dataset.
        ids: the codes.
        measures: from :func:`recbole_gr.tokenizers.measures.diagnose`.
        item_names: ``[n_items]``, what to call each item; entry 0 is padding.
    """
    codes = ids.codes[1:, : quantised_levels(ids)]
    names = np.asarray(item_names, dtype=object)[1:]
    title = f"Semantic IDs of {name}: {ids.source.get('tokenizer', 'from a file')}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _tiles(measures),
        "<h2>Level by level</h2>",
        _level_table(measures),
        _explanation(),
        *_plots(ids, codes, measures),
        f"<h2>Items that share a prefix of {min(EXAMPLE_DEPTH, codes.shape[1])} codes</h2>",
        _group_table(*_example_groups(codes, min(EXAMPLE_DEPTH, codes.shape[1])), names),
        "<h2>Items with equal codes</h2>",
        _group_table(*_largest_groups(codes), names),
        f"<h2>Where the codes come from</h2><pre>{escape(json.dumps(ids.source, indent=1))}</pre>",
    ]
    with atomic_write(path) as file:
        file.write(_page(title, "\n".join(parts)))


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
{body}
</body>
</html>
"""


def _tiles(measures: dict[str, Any]) -> str:
    tiles = [
        (f"{measures['items']:,}", "items"),
        (f"{measures['unique_share']:.2%}", "distinct IDs"),
        (measures["largest_collision"], "items with one ID, at most"),
        (f"{measures['first_level_entropy']} bits", "entropy of the first level"),
        (measures["collision"], "collision rule"),
    ]
    if "unique_share_quantised" in measures:
        tiles.insert(2, (f"{measures['unique_share_quantised']:.2%}", "distinct before the collision rule"))
    if "distance_correlation" in measures:
        for name, value in measures["distance_correlation"].items():
            tiles.append(("-" if value is None else value, f"rank correlation of {name} and vector distance"))
    return (
        '<div class="tiles">' + "".join(f"<div><b>{escape(str(value))}</b>{text}</div>" for value, text in tiles) + "</div>"
    )


LEVEL_COLUMNS = {
    "codebook_sizes": "codes",
    "codes_used": "used",
    "perplexity": "perplexity",
    "reconstruction_error": "reconstruction error",
    "reconstruction_cosine": "cosine",
    "neighbours_sharing_prefix": "neighbours with its prefix",
    "category_agreement": "same category given the prefix",
}


def _level_table(measures: dict[str, Any]) -> str:
    present = [name for name in LEVEL_COLUMNS if measures.get(name)]
    head = "".join(f'<th class="number">{LEVEL_COLUMNS[name]}</th>' for name in present)
    rows = []
    for level in range(measures["levels"]):
        values = [measures[name][level] if level < len(measures[name]) else None for name in present]
        cells = "".join(f'<td class="number">{"-" if value is None else value}</td>' for value in values)
        rows.append(f"<tr><td>{level}</td>{cells}</tr>")
    return f'<div class="wide"><table><tr><th>level</th>{head}</tr>{"".join(rows)}</table></div>'


def _explanation() -> str:
    return (
        '<p class="small">Reconstruction error: the share of the vectors\' variance that is left when each code stands for '
        "the mean residual of its items after the levels before it. Neighbours: of an item's "
        f"{NEIGHBOURS} nearest by cosine, those whose IDs begin with the same codes. Category: of the pairs of items with "
        "the same prefix, those of one category. Perplexity: the number of codes that would be as varied if all were used "
        "alike.</p>"
    )


def _plots(ids: SemanticIDs, codes: np.ndarray, measures: dict[str, Any]) -> Iterator[str]:
    yield _plot("Items per code, the most common first", _use_of_codes(ids, codes))
    comparisons = {
        "reconstruction_error": "reconstruction error",
        "neighbours_sharing_prefix": "neighbours with its prefix",
        "category_agreement": "same category given the prefix",
    }
    bars = [
        go.Bar(x=[f"level {level}" for level in range(len(measures[name]))], y=measures[name], name=words)
        for name, words in comparisons.items()
        if measures.get(name)
    ]
    if bars:
        yield _plot("What a prefix has in common", bars, yaxis_title="share")
    sizes, counts = np.unique(np.bincount(number_groups(codes)), return_counts=True)
    together = go.Bar(x=[str(size) for size in sizes], y=sizes * counts)
    titles = {"xaxis_title": "items with the same codes", "yaxis_title": "items", "xaxis_type": "category"}
    yield _plot("How many items have the same codes, an appended digit left out", [together], **titles)
    losses = (ids.source.get("training") or {}).get("loss")
    if losses:
        line = go.Scatter(x=np.linspace(0, 1, len(losses)), y=losses)
        yield _plot("Loss of the tokenizer's training", [line], xaxis_title="share of the steps", yaxis_title="loss")


def _use_of_codes(ids: SemanticIDs, codes: np.ndarray) -> Iterator[go.Scatter]:
    for level, size in enumerate(ids.codebook_sizes[: codes.shape[1]]):
        counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
        yield go.Scatter(x=np.arange(size), y=counts, name=f"level {level}", line={"shape": "hv"})


def _plot(title: str, traces: Iterable[Any], **layout: Any) -> str:
    figure = go.Figure(list(traces))
    clear = "rgba(0,0,0,0)"
    grey = {"gridcolor": "rgba(128,128,128,.25)", "zerolinecolor": "rgba(128,128,128,.4)"}
    figure.update_layout(
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        font_color="#808a96",  # readable on white and on black
        height=320,
        margin={"l": 50, "r": 10, "t": 10, "b": 45},
        legend={"orientation": "h", "y": 1.12},
        xaxis=grey,
        yaxis=grey,
        **layout,
    )
    plot = figure.to_html(full_html=False, include_plotlyjs=False, config={"responsive": True, "displayModeBar": False})
    return f"<h2>{title}</h2>{plot}"


def _example_groups(codes: np.ndarray, depth: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Some groups of at least three items, or two if none has more, with the same first codes: prefixes and rows."""
    group = number_groups(codes[:, :depth])
    sizes = np.bincount(group)
    candidates = np.flatnonzero(sizes >= min(3, max(2, sizes.max())))
    chosen = np.random.default_rng(SEED).permutation(candidates)[:EXAMPLE_GROUPS]
    members = [np.flatnonzero(group == number) for number in chosen]
    return [codes[rows[0], :depth] for rows in members], members


def _largest_groups(codes: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The largest groups of items whose codes are all the same."""
    group = number_groups(codes)
    sizes = np.bincount(group)
    largest = np.argsort(-sizes, kind="stable")[:EXAMPLE_GROUPS]
    members = [np.flatnonzero(group == number) for number in largest if sizes[number] > 1]
    return [codes[rows[0]] for rows in members], members


def _group_table(prefixes: list[np.ndarray], members: list[np.ndarray], names: np.ndarray) -> str:
    if not members:
        return "<p>There are none.</p>"
    rows = []
    for prefix, items in zip(prefixes, members, strict=True):
        texts = [str(names[item])[:LETTERS_OF_A_TEXT] for item in items[:ITEMS_OF_A_GROUP]]
        listed = "".join(f"<li>{escape(text)}</li>" for text in texts)
        more = f"<li>and {len(items) - len(texts):,} more</li>" if len(items) > len(texts) else ""
        words = ", ".join(map(str, prefix.tolist()))
        rows.append(
            f'<tr><td class="prefix">({words})</td><td class="number">{len(items)}</td><td><ul>{listed}{more}</ul></td></tr>'
        )
    head = '<tr><th>prefix</th><th class="number">items</th><th>their texts</th></tr>'
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'
