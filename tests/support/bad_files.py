"""Bad files by hand: interactions, settings in yaml, boards, semantic IDs; each with words of the line that refuses it."""

from __future__ import annotations

import json

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
ROWS = "".join(f"u{user}\ti{(user * 3 + place) % 9}\t{place}\n" for user in range(6) for place in range(5))
GOOD = HEADER + ROWS


def _at(time: str) -> str:
    return HEADER + ROWS.replace("\t3\n", f"\t{time}\n")


#: Interactions of six users: what the file holds, and what is said of it.
INTER: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "is empty in its first line"),
    "blank_line": ("\n" + GOOD, "is empty in its first line"),
    "header_alone": (HEADER, "has a header and no rows"),
    "no_types": (GOOD.replace(":token", "").replace(":float", ""), "has a column 'user_id' without a type"),
    "unknown_type": (GOOD.replace(":float", ":int"), "a type is one of token, token_seq, float, float_seq"),
    "two_columns_of_one_name": (GOOD.replace("timestamp:float", "item_id:token"), "has two columns 'item_id'"),
    "no_times": (GOOD.replace("timestamp", "when"), "has no column 'timestamp' (TIME_FIELD)"),
    "no_users": (GOOD.replace("user_id", "who"), "has no column 'user_id' (USER_ID_FIELD)"),
    "users_as_numbers": (
        GOOD.replace("user_id:token", "user_id:float").replace("u", "1").replace("1ser", "user"),
        "USER_ID_FIELD must be a column of type token",
    ),
    "times_as_tokens": (GOOD.replace(":float", ":token"), "the order of time needs numbers"),
    "blanks_around": (GOOD.replace("\titem_id", "\t item_id"), "has blanks around the column"),
    "quoted_header": (GOOD.replace("user_id:token", '"user_id:token"'), "quotation marks"),
    "commas": (GOOD.replace("\t", ","), "a type is one of"),
    "text_times": (
        _at("Monday"),
        "6 cells in the column timestamp:float that are no numbers, the first in line 5: 'Monday'",
    ),
    "dates": (_at("2020-01-31"), "a time is given in seconds from 1970"),
    "empty_times": (_at(""), "6 of 30 interactions of bad have no timestamp"),
    "nan_times": (_at("nan"), "6 of 30 interactions of bad have no timestamp"),
    "infinite_times": (_at("inf"), "6 of 30 interactions of bad have an infinite timestamp"),
    "times_before_all": (_at("-inf"), "have an infinite timestamp"),
    "times_beyond_float32": (_at("1e300"), "have an infinite timestamp"),
    "endless_exponents": (
        _at("1e4000120120"),
        "6 cells in the column timestamp:float that are no numbers, the first in line 5",
    ),
    "short_rows": (HEADER + ROWS.replace("\t3\n", "\n"), "6 of 30 interactions of bad have no timestamp"),
    "long_rows": (_at("3\t4"), "has 6 rows with more cells than its header, the first in line 5"),
    "nul_byte": (GOOD.replace("i3", "i\0"), "is no text: there is a NUL byte in line 5"),
    "nul_in_header": (GOOD.replace("user", "us\0er", 1), "has no column 'user_id'"),
    "random_bytes": (bytes(range(128, 256)) * 4, "is not UTF-8 text"),
    "latin_1": (GOOD.replace("i3", "é").encode("latin-1"), "is not UTF-8 text"),
    "utf_16": (GOOD.encode("utf-16"), "is not UTF-8 text"),
    "open_quotation": (GOOD.replace("u3", '"u3', 1), "cannot be read"),
    "users_without_names": (HEADER + "\ti1\t1\n\ti2\t2\n", "2 of 2 rows of bad.inter have no user_id"),
    "items_without_names": (HEADER + "u1\t\t1\nu2\tNA\t2\n", "2 of 2 rows of bad.inter have no item_id"),
    "one_interaction_each": (HEADER + "".join(f"u{user}\ti{user % 3}\t1\n" for user in range(6)), "is left for validation"),
    "two_interactions_each": (
        HEADER + "".join(f"u{user}\ti{(user + place) % 3}\t{place}\n" for user in range(6) for place in range(2)),
        "no interaction of bad is left for validation",
    ),
    "one_user_of_all_items": (
        HEADER + "".join(f"u\ti{item}\t{item}\n" for item in range(9)),
        "cannot sample negative items",
    ),
    "one_row": (HEADER + "u\ti\t1\n", "is left for validation"),
}

#: Files of settings.
YAML: dict[str, tuple[str | bytes, str]] = {
    "list": ("- epochs\n- 3\n", "must hold settings as key: value"),
    "text": ("epochs\n", "must hold settings as key: value"),
    "number": ("3\n", "must hold settings as key: value"),
    "number_for_a_key": ("1: 2\n", "must hold settings as key: value"),
    "nothing_for_a_key": ("~: 2\n", "must hold settings as key: value"),
    "list_for_a_key": ("? [a]\n: 1\n", "unhashable key"),
    "same_key_twice": ("epochs: 1\nepochs: 2\n", "the key 'epochs' is there twice"),
    "same_key_twice_inside": ("eval_args:\n  mode: full\n  mode: uni100\n", "the key 'mode' is there twice"),
    "tab": ("eval_args:\n\tmode: full\n", "cannot start any token"),
    "unclosed_list": ("topk: [1, 2\n", "expected ',' or ']'"),
    "unclosed_text": ("model: 'x\n", "is no yaml"),
    "colons": ("epochs: 1: 2\n", "is no yaml"),
    "latin_1": ("record_name: é\n".encode("latin-1"), "can't decode byte 0xe9"),
    "random_bytes": (bytes(range(128, 256)), "is no yaml"),
    "utf_16": ("epochs: 1\n".encode("utf-16"), "is no yaml"),
    "nul": ("epochs: 1\0\n", "special characters are not allowed"),
    "bell": ("state: \x07\n", "special characters are not allowed"),
    "two_documents": ("epochs: 1\n---\nepochs: 2\n", "but found another document"),
    "unknown_alias": ("topk: *k\n", "undefined alias"),
    "alias_of_itself": ("topk: &k [*k]\n", "aliases make more than"),
    "many_laughs": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{n}: &{n} [{','.join([f'*{b}'] * 9)}]\n" for b, n in zip("abcdefgh", "bcdefghi")),
        "aliases make more than",
    ),
    "deep": ("topk: " + "[" * 2000 + "]" * 2000, "recursion"),
    "digits": ("epochs: " + "9" * 5000, "is no yaml"),
    "object": ("epochs: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "own_tag": ("epochs: !many 3\n", "could not determine a constructor"),
    "bytes": ("epochs: !!binary aGk=\n", "epochs=b'hi': must be a whole number"),
    "date": ("epochs: 2020-01-01\n", "must be a whole number"),
    "set": ("epochs: !!set {a}\n", "must be a whole number"),
    "float": ("epochs: 1.0\n", "epochs=1.0: must be a whole number"),
    "words": ("epochs: many\n", "epochs='many': must be a whole number of at least 0 (set in bad.yaml)"),
    "nothing": ("epochs: ~\n", "epochs=None: must be a whole number"),
    "nan": ("learning_rate: .nan\n", "learning_rate=nan"),
    "infinite": ("learning_rate: .inf\n", "learning_rate=inf"),
    "yes_please": ("use_gpu: yes please\n", "use_gpu='yes please': must be True or False"),
    "unknown_key": ("epochss: 1\n", "did you mean epochs? (set in bad.yaml)"),
    "nul_in_a_path": ('cache_dir: "a\\0b"\n', "without NUL bytes"),
    "board": ("rows: []\n", "is not a setting of any model or dataset"),
}

_BOARD = "dataset: small\nrows: [{model: BPR}]\n"

#: Boards.
BOARD: dict[str, tuple[str | bytes, str]] = {
    **{
        name: YAML[name]
        for name in (
            "tab",
            "unclosed_list",
            "same_key_twice",
            "latin_1",
            "nul",
            "deep",
            "many_laughs",
            "object",
            "two_documents",
        )
    },
    "list": ("- rows\n", "must hold keys and values"),
    "empty": ("", "must hold keys and values"),
    "no_rows": ("dataset: small\n", "rows=None: must be set"),
    "rows_of_nothing": ("dataset: small\nrows: []\n", "rows=[]: must be set"),
    "rows_of_numbers": ("dataset: small\nrows: [3]\n", "must hold keys and values, model among them (row 1"),
    "rows_a_number": ("dataset: small\nrows: 3\n", "must be a list of rows"),
    "no_dataset": ("rows: [{model: BPR}]\n", "dataset=None: must be set"),
    "dataset_a_number": ("dataset: 3\nrows: [{model: BPR}]\n", "dataset=3: must be text"),
    "unknown_model": ("dataset: small\nrows: [{model: BPRR}]\n", "no such model; did you mean BPR"),
    "unknown_key": (_BOARD + "seed: 3\n", "did you mean seeds?"),
    "settings_a_list": ("dataset: small\nrows: [{model: BPR, settings: [1]}]\n", "settings=[1]: must hold keys and values"),
    "bad_setting": (
        "dataset: small\nrows: [{model: BPR, settings: {epochs: many}}]\n",
        "epochs='many': must be a whole number of at least 0 (row 'BPR'",
    ),
    "date_setting": (
        "dataset: small\nrows: [{model: BPR, settings: {epochs: 2020-01-01}}]\n",
        "must be text, number, switch, list or mapping",
    ),
    "nan_setting": (
        "dataset: small\nrows: [{model: BPR, settings: {learning_rate: .nan}}]\n",
        "learning_rate=nan: must be a number at least 0",
    ),
    "python": (
        "dataset: small\nrows: [{model: BPR, settings: {eval_args: \"__import__('os').getcwd()\"}}]\n",
        "must be a dict with split",
    ),
    "seed_a_word": (_BOARD + "seeds: [x]\n", "seeds=['x']"),
    "seed_twice": (_BOARD + "seeds: [1, 1]\n", "must not hold the same twice"),
    "seed_too_large": (_BOARD + "seeds: [99999999999999999999]\n", "below 4294967296"),
    "topk_zero": (_BOARD + "topk: [0]\n", "topk=[0]"),
    "unknown_metric": (_BOARD + "metrics: [Niceness]\n", "metrics='Niceness'"),
    "name_with_folders": (_BOARD + "name: ../../evil\n", "name='../../evil': must be a name without folders"),
    "name_with_nul": (_BOARD + 'name: "a\\0b"\n', "must be a name without folders"),
    "name_too_long": (_BOARD + f"name: {'x' * 300}\n", "of at most 200 bytes"),
    "name_of_blanks": (_BOARD + "name: '  '\n", "must be a name without folders"),
    "row_of_blanks": ("dataset: small\nrows: [{model: BPR, name: ' '}]\n", "must be text that can be read"),
    "side_by_side": (_BOARD + "side_by_side: [3]\n", "must hold settings and their values"),
    "published": (_BOARD + "published: [nowhere]\n", "no such block"),
    "config_file": (_BOARD + "config_files: [../none.yaml]\n", "no such file"),
    "trials": (_BOARD + "search: {trials: many}\n", "trials='many'"),
    "search_of_a_number": ("dataset: small\nrows: [{model: BPR, search: {choice: 3}}]\n", "must hold, under choice"),
    "search_upside_down": (
        "dataset: small\nrows: [{model: BPR, search: {uniform: {learning_rate: [1, 0]}}}]\n",
        "the lower bound first",
    ),
    "search_of_nan": (
        "dataset: small\nrows: [{model: BPR, search: {uniform: {learning_rate: [.nan, 1]}}}]\n",
        "takes a list of 2 numbers",
    ),
    "search_of_words": (
        "dataset: small\nrows: [{model: BPR, search: {choice: {learning_rate: [fast]}}}]\n",
        "learning_rate='fast': must be a number",
    ),
    "description": (_BOARD + "description: 3\n", "description=3: must be text"),
    "id_level": (_BOARD + "id_level: maybe\n", "must be True or False"),
    "main_metric": (_BOARD + "main_metric: NDCG@7\n", "must be one of metrics at one of topk"),
    "shares": (_BOARD + "protocol: {eval_args: {split: {RS: [1, 2]}}}\n", "three numbers"),
    "no_labels": ("dataset: small\nrows: [{model: LR}]\n", "row 'LR'"),
    "heads": (
        "dataset: small\nrows: [{model: SASRec, settings: {n_heads: 3}}]\n",
        "not a multiple of the number of attention heads",
    ),
}

#: Semantic IDs of items called i0, i1, ...: the ending of the name, what the file holds, what is said of it.
SID: dict[str, tuple[str, str | bytes, str]] = {
    "nothing": (".json", "", "not valid json"),
    "list": (".json", "[1, 2]", "must be one json object"),
    "null": (".json", "null", "must be one json object"),
    "empty": (".json", "{}", "must be one json object"),
    "half": (".json", '{"i0": [1, 2', "not valid json"),
    "deep": (".json", "[" * 100_000, "not valid json"),
    "random_bytes": (".json", bytes(range(128, 256)), "not valid json"),
    "words": (".json", json.dumps({f"i{n}": "x" for n in range(9)}), "must have a list of codes"),
    "nothing_for_codes": (".json", json.dumps({f"i{n}": None for n in range(9)}), "must have a list of codes"),
    "no_codes": (".json", json.dumps({f"i{n}": [] for n in range(9)}), "at least one code"),
    "floats": (".json", json.dumps({f"i{n}": [1.5] for n in range(9)}), "must be whole numbers"),
    "switches": (".json", json.dumps({f"i{n}": [True] for n in range(9)}), "must be whole numbers"),
    "not_a_number": (".json", json.dumps({f"i{n}": [float("nan")] for n in range(9)}), "must be whole numbers"),
    "negative": (".json", json.dumps({f"i{n}": [-1] for n in range(9)}), "codes start at 0"),
    "lengths": (".json", json.dumps({f"i{n}": [n] * (1 + n % 2) for n in range(9)}), "all of one length"),
    "too_large": (".json", json.dumps({f"i{n}": [10**30] for n in range(9)}), "too large"),
    "codebook_too_large": (".json", json.dumps({f"i{n}": [n, 10**9 * n] for n in range(9)}), "the codebooks are too large"),
    "letters": (".json", json.dumps({f"i{n}": ["<a_1>", "<c_2>"] for n in range(9)}), "must be like <b_183>"),
    "all_the_same": (".json", json.dumps({f"i{n}": [3, 3] for n in range(9)}), "have the same codes"),
    "item_twice": (".json", '{"i0": [1], "i0": [2]}', "occurs more than once"),
    "other_items": (".json", json.dumps({f"x{n}": [n] for n in range(9)}), "looks like a file of another dataset"),
    "some_items": (".json", json.dumps({f"i{n}": [n] for n in range(5)}), "has no codes for"),
    "npz_of_nothing": (".npz", b"", "not a semantic-ID file"),
    "npz_of_bytes": (".npz", bytes(range(256)), "not a semantic-ID file"),
    "npz_of_half": (".npz", b"PK\x03\x04" + bytes(100), "not a semantic-ID file"),
    "pt_of_nothing": (".pt", b"", "cannot be read"),
    "pt_of_bytes": (".pt", bytes(range(256)), "cannot be read"),
    "parquet_of_nothing": (".parquet", b"", "cannot be read"),
    "parquet_of_bytes": (".parquet", bytes(range(256)), "cannot be read"),
    "text": (".txt", "i0 1 2", "must end in"),
}
