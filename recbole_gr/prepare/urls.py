"""Where publishers keep their files: the only table of addresses. Yelp's can be had only from its page."""

_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_AMAZON_2018 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"
_AMAZON_2023 = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/"
_STEAM = "https://cseweb.ucsd.edu/~wckang/"

#: Folders by source and by file, ``{category}`` as in the sources.
FOLDERS = {
    "amazon-2014": {
        "reviews_{category}_5.json.gz": _AMAZON_2014,
        "reviews_{category}.json.gz": _AMAZON_2014,
        "meta_{category}.json.gz": _AMAZON_2014,
    },
    "amazon-2018": {
        "{category}_5.json.gz": f"{_AMAZON_2018}categoryFilesSmall/",
        "{category}.json.gz": f"{_AMAZON_2018}categoryFiles/",
        "meta_{category}.json.gz": f"{_AMAZON_2018}metaFiles2/",
    },
    "amazon-2023": {
        "{category}.jsonl.gz": f"{_AMAZON_2023}raw/review_categories/",
        "{category}.csv.gz": f"{_AMAZON_2023}benchmark/5core/rating_only/",
        "{category}.train.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "{category}.valid.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "{category}.test.csv.gz": f"{_AMAZON_2023}benchmark/5core/last_out/",
        "meta_{category}.jsonl.gz": f"{_AMAZON_2023}raw/meta_categories/",
    },
    "movielens-100k": {"ml-100k.zip": _GROUPLENS},
    "movielens-1m": {"ml-1m.zip": _GROUPLENS},
    "movielens-20m": {"ml-20m.zip": _GROUPLENS},
    "movielens-32m": {"ml-32m.zip": _GROUPLENS},
    "steam": {"steam_reviews.json.gz": _STEAM, "steam_games.json.gz": _STEAM},
}

#: MD5 sums that the publishers give.
MD5 = {
    "ml-100k.zip": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m.zip": "c4d9eecfca2ab87c1945afe126590906",
    "ml-20m.zip": "cd245b17a1ae2cc31bb14903e1204af3",
    "ml-32m.zip": "d472be332d4daa821edc399621853b57",
}
