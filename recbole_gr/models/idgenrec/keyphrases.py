"""The ID generator that needs no model: keyphrases of the items' texts by tf-idf, made unique."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

#: What a phrase does not reach across.
_BREAKS = re.compile(r"[,;:|/()\[\]&]|\s-\s")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
#: The ID of an item without a text, before it is made unique.
NAMELESS = "item"
#: An ID gets no further phrases when it has so many words more than it should begin with: then a number makes it unique.
LONGER = 2


def keyphrase_ids(texts: Sequence[str], n_words: int, phrase_words: int, min_items: int) -> list[tuple[str, ...]]:
    """Textual IDs of a catalogue, no two of them the same.

    An ID begins with the item's keyphrases: of the phrases that at least ``min_items`` items have, those of the highest
    tf-idf, as many as make ``n_words`` words, the most widespread first, so that IDs go from the general to the special. Of
    the items that have one ID, each then gets its next phrase, as long as there are such items and phrases; at last a
    number tells them apart.

    Args:
        texts: one per item id; entry 0, the padding, is not used.
        n_words: words of an ID that is unique at once.
        phrase_words: words of the longest phrase.
        min_items: see above.

    Returns:
        The words of each item's ID; entry 0 is empty.
    """
    ranked = _ranked_phrases(texts[1:], phrase_words, min_items)
    made, left = [], []
    for phrases, shared in ranked:
        chosen, words, place = [], set[str](), 0
        while place < shared and len(words) < n_words:
            if words.isdisjoint(phrases[place][1]):
                chosen.append(phrases[place])
                words.update(phrases[place][1])
            place += 1
        chosen.sort(key=lambda phrase: -phrase[0])  # which keeps the order of equally widespread ones
        made.append(tuple(word for _, phrase in chosen for word in phrase))
        left.append([phrase for phrase in phrases if phrase not in chosen])
    longer = _lengthened(made, left, most=n_words + LONGER)
    return [(), *_numbered([words or (NAMELESS,) for words in longer])]


def _phrases(text: str, phrase_words: int) -> list[str]:
    """All runs of at most so many words of a text that neither begin nor end with a stop word."""
    found = []
    for part in _BREAKS.split(text.lower()):
        words = _WORD.findall(part)
        for start in range(len(words)):
            for end in range(start + 1, min(start + phrase_words, len(words)) + 1):
                if words[start] not in ENGLISH_STOP_WORDS and words[end - 1] not in ENGLISH_STOP_WORDS:
                    found.append(" ".join(words[start:end]))
    return found


def _ranked_phrases(
    texts: Sequence[str], phrase_words: int, min_items: int
) -> list[tuple[list[tuple[int, tuple[str, ...]]], int]]:
    """By item its phrases, each with the number of items that have it, and how many of them are shared.

    Those that ``min_items`` items have come first; within both parts the order is that of tf-idf.
    """
    vectorizer = TfidfVectorizer(analyzer=partial(_phrases, phrase_words=phrase_words), sublinear_tf=True)
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return [([], 0)] * len(texts)
    names = [tuple(name.split()) for name in vectorizer.get_feature_names_out()]
    n_items_with = np.bincount(weights.indices, minlength=len(names))
    ranked = []
    for start, end in zip(weights.indptr[:-1], weights.indptr[1:]):
        phrase = weights.indices[start:end]
        rare = n_items_with[phrase] < min_items
        phrase = phrase[np.lexsort((phrase, -weights.data[start:end].round(9), rare))]
        ranked.append(([(int(n_items_with[one]), names[one]) for one in phrase], int((~rare).sum())))
    return ranked


def _lengthened(
    made: list[tuple[str, ...]], left: list[list[tuple[int, tuple[str, ...]]]], most: int
) -> list[tuple[str, ...]]:
    """IDs that several items have, or that are empty, longer by the items' next phrases: of fewer than ``most`` words."""
    made, next_phrase = list(made), [iter(phrases) for phrases in left]
    open_items: Sequence[int] = range(len(made))
    while open_items:
        count = Counter(made)
        open_items = [item for item in open_items if count[made[item]] > 1 or not made[item]]
        longer = {item: _with_next(made[item], next_phrase[item], most) for item in open_items}
        open_items = [item for item in open_items if longer[item] != made[item]]
        for item in open_items:
            made[item] = longer[item]
    return made


def _with_next(words: tuple[str, ...], phrases: Iterator[tuple[int, tuple[str, ...]]], most: int) -> tuple[str, ...]:
    """An ID and the new words of the first phrase that has some; the ID as it was, where none has or it is long enough."""
    if len(words) < most:
        for _, phrase in phrases:
            if new := tuple(word for word in phrase if word not in words):
                return words + new
    return words


def _numbered(made: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What is still the same gets a number: the second of them by item id "2", the third "3", ..."""
    taken, number = set(made), Counter[tuple[str, ...]]()
    unique = []
    for words in made:
        number[words] += 1
        one = words if number[words] == 1 else (*words, str(number[words]))
        while number[words] > 1 and one in taken:
            number[words] += 1
            one = (*words, str(number[words]))
        taken.add(one)
        unique.append(one)
    return unique
