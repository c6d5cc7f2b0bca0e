"""From the raw files that datasets are published in to RecBole's atomic files.

Each source is a module that says which files there are and what a line of them means; the rest (reading damaged files,
the k-core, writing, downloads) is common to all.
"""

from recbole_gr.prepare.amazon import AMAZON_SOURCES
from recbole_gr.prepare.movielens import MOVIELENS_SOURCES
from recbole_gr.prepare.source import Source
from recbole_gr.prepare.steam import STEAM
from recbole_gr.prepare.yelp import YELP

#: Sources by the name that ``recbole-gr prepare`` knows them by.
SOURCES: dict[str, Source] = {source.name: source for source in (*AMAZON_SOURCES, *MOVIELENS_SOURCES, YELP, STEAM)}
