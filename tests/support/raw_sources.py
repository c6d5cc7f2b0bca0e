"""Small raw files as their publishers write them."""

import gzip
import json
import os
import zipfile

from recbole_gr.prepare import command as prepare

DAY = 86_400


def prepare_dataset(source, category=None, **options):
    """As the function of that name, from the folder ``raw``."""
    return prepare.prepare_dataset(source, category, **{"raw_dir": "raw", **options})


def write_gzip(path, lines):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def cut_off(path, share=0.5):
    """Leave only the beginning of a file."""
    size = int(os.path.getsize(path) * share)
    with open(path, "r+b") as file:
        file.truncate(size)


def amazon_review(user, item, rating, time):
    """A line of Amazon 2014 and 2018, json."""
    review = {"reviewerID": user, "asin": item, "reviewerName": 'A "Name"', "helpful": [0, 1], "reviewText": "good\tbuy\n"}
    return json.dumps({**review, "overall": rating, "summary": "s", "unixReviewTime": time, "reviewTime": "01 30, 2014"})


#: Users u0..u3 had items i0..i3 all; u4 had i0 and i4 (which only u4 had).
CORE_PAIRS = [(f"u{user}", f"i{item}") for item in range(4) for user in range(4)] + [("u4", "i0"), ("u4", "i4")]


def amazon_reviews(pairs=CORE_PAIRS):
    return [amazon_review(user, item, 5.0, 1_390_694_400 + DAY * row) for row, (user, item) in enumerate(pairs)]


#: Python literals, as in Amazon 2014: single quotes, escapes, a price as a number, categories in lists of lists.
AMAZON_2014_METADATA = [
    repr(
        {
            "asin": "i1",
            "description": "Line one.\nLine\ttwo.",
            "title": 'Nail Polish &amp; Remover, 3" bottle',
            "price": 12.5,
            "imUrl": "x",
            "related": {"also_bought": ["i0", "i2"]},
            "brand": "Prada",
            "categories": [["Beauty", "Nails"], ["Beauty", "Gifts"]],
        }
    ),
    repr({"asin": "i0", "title": '"Best" Soap', "categories": [["Beauty"]]}),
    repr({"asin": "unknown", "title": "nobody had this", "categories": [["Beauty"]]}),
    repr({"asin": "i2", "brand": "Ghost", "categories": [["Beauty", "L'Or\u00e9al"]], "price": 3}),
    repr({"asin": "i1", "title": "the second record of i1"}),
]


def write_amazon_2014(folder, category="Beauty", pairs=CORE_PAIRS, metadata=AMAZON_2014_METADATA):
    os.makedirs(folder, exist_ok=True)
    write_gzip(os.path.join(folder, f"reviews_{category}_5.json.gz"), amazon_reviews(pairs))
    write_gzip(os.path.join(folder, f"meta_{category}.json.gz"), metadata)


def write_amazon_2018(folder, category):
    os.makedirs(folder, exist_ok=True)
    write_gzip(os.path.join(folder, f"{category}_5.json.gz"), amazon_reviews())
    metadata = [
        {"asin": "i0", "category": ["Toys &amp; Games", "Games"], "description": ["One.", "", "Two."]},
        {"asin": "i1", "title": "Puzzle", "brand": "Ravensburger", "category": [], "description": [], "price": "$1,012.99"},
        {"asin": "i2", "title": "Ball", "brand": "", "category": ["Toys"], "description": "", "price": "$3.00 - $5.00"},
    ]
    write_gzip(os.path.join(folder, f"meta_{category}.json.gz"), map(json.dumps, metadata))


def write_amazon_2023_metadata(folder, category):
    metadata = [
        {
            **{"main_category": "Video Games", "title": "Zelda", "price": 59.99, "description": ["A", "B"]},
            **{"store": "Nintendo", "categories": ["Video Games", "Switch"], "parent_asin": "p0", "details": {"Brand": "N"}},
        },
        {"main_category": None, "title": "Cable", "price": None, "store": None, "categories": [], "parent_asin": "p1"},
        {"main_category": None, "title": "", "price": "\u2014", "store": "S", "categories": [], "parent_asin": "p2"},
    ]
    os.makedirs(folder, exist_ok=True)
    write_gzip(os.path.join(folder, f"meta_{category}.jsonl.gz"), map(json.dumps, metadata))


#: user, parent_asin, rating, milliseconds
AMAZON_2023_RATINGS = [
    ("AE_1", "p0", 5.0, 1_588_687_728_923),
    ("AE_1", "p1", 4.0, 1_588_687_729_000),
    ("AE_2", "p0", 1.0, 1_600_000_000_010),
    ("AE_2", "p2", 3.0, 1_600_000_000_500),
]


def amazon_2023_reviews():
    for user, item, rating, time in AMAZON_2023_RATINGS:
        review = {"rating": rating, "title": "t", "text": "x", "images": [], "asin": f"child of {item}"}
        yield json.dumps({**review, "parent_asin": item, "user_id": user, "timestamp": time, "verified_purchase": True})


def amazon_2023_csv(rows, history=False):
    yield "user_id,parent_asin,rating,timestamp" + (",history" if history else "")
    for row in rows:
        yield ",".join(map(str, row)) + (",p0 p1" if history else "")


def write_movielens_100k(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "u.data"), "w", encoding="latin-1") as file:
        file.write("196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250949\n")
    with open(os.path.join(folder, "u.item"), "w", encoding="latin-1") as file:
        file.write("242|Kolya (1996)|24-Jan-1997||http://x?Kolya%20(1996)|" + flags(5) + "\n")
        file.write("302|Mis\u00e9rables, Les (1995)|01-Jan-1995||http://x|" + flags(8, 12) + "\n")
        file.write("267|unknown||||" + flags(0) + "\n\n")


def flags(*genres):
    """The last 19 columns of u.item."""
    return "|".join("1" if genre in genres else "0" for genre in range(19))


MOVIELENS_1M = {
    "ratings.dat": "1::1193::5::978300760\n1::73::3::978302109\n2::1193::4::978298413\n".encode("latin-1"),
    "movies.dat": (
        "73::Mis\u00e9rables, Les (1995)::Drama|Musical\n1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n"
    ).encode("latin-1"),
}

MOVIELENS_20M = {
    "ratings.csv": b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,4.0,1112484676\n7,29,0.5,1112484676\n",
    "movies.csv": (
        'movieId,title,genres\n2,"City of Lost Children, The (Cit\u00e9 des enfants perdus, La) (1995)",Adventure|Drama\n'
        '29,"""Great Performances"" Cats (1998)",(no genres listed)\n'
    ).encode(),
}


def write_zip(folder, name, members):
    """A zip of GroupLens: a folder of its name with the files inside."""
    os.makedirs(folder, exist_ok=True)
    with zipfile.ZipFile(os.path.join(folder, f"{name}.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(f"{name}/{member}", content)


def write_yelp(folder):
    os.makedirs(folder, exist_ok=True)
    rows = [("mh_-eM", "XQfw", 3.0, "2018-07-07 22:09:11"), ("OyoGAe", "7ATY", 5.0, "2012-01-03 15:28:18")]
    reviews = [
        {"review_id": "r", "user_id": user, "business_id": item, "stars": stars, "useful": 0, "text": "a\n\nb", "date": date}
        for user, item, stars, date in rows
    ]
    businesses = [
        {
            **{"business_id": "XQfw", "name": "Turning Point", "address": "1 Main", "city": "North Wales", "state": "PA"},
            **{"stars": 3.0, "attributes": None, "categories": "Restaurants, Food", "hours": None},
        },
        {"business_id": "7ATY", "name": "Body Cycle", "city": "Philadelphia", "state": "PA", "categories": None},
    ]
    for kind, records in {"review": reviews, "business": businesses}.items():
        with open(os.path.join(folder, f"yelp_academic_dataset_{kind}.json"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)


#: username, product, hours, date; pandas would read two of the names as something else
STEAM_REVIEWS = [
    ("Chaos Syren", "725280", 0.1, "2017-12-17"),
    ("null", "328100", None, "2016-02-29"),
    ('"quoted" Tab\there', "328100", 51.1, "1970-01-02"),
]


def write_steam(folder):
    os.makedirs(folder, exist_ok=True)
    reviews = []
    for user, item, hours, date in STEAM_REVIEWS:
        hours_text = "" if hours is None else f" u'hours': {hours},"
        reviews.append(
            f"{{u'username': u{user!r},{hours_text} u'products': 41, u'product_id': u'{item}', u'page_order': 0, "
            f"u'date': u'{date}', u'text': u'It\\'s fun \\u2665', u'early_access': False, u'page': 1}}"
        )
    games = [
        "{u'publisher': u'Kotoshiro', u'genres': [u'Action', u'Indie'], u'app_name': u'Lost Summoner Kitty', "
        "u'title': u'Lost Summoner Kitty', u'tags': [u'Strategy', u'Action'], u'price': 4.99, u'id': u'725280', "
        "u'developer': u'Kotoshiro', u'early_access': False}",
        "{u'genres': [u'RPG'], u'app_name': u'Ironbound\\u2122', u'price': u'Free To Play', u'id': u'328100'}",
        "{u'app_name': u'a game without a number', u'price': 9.99}",
    ]
    write_gzip(os.path.join(folder, "steam_reviews.json.gz"), reviews)
    write_gzip(os.path.join(folder, "steam_games.json.gz"), games)
