"""Bad values of settings, each in a command of its own: one line that names the key and the value, and exit status 2.

The values are made from the table of settings, those of all of RecBole's models included, and by hypothesis; none is trained.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bad_values import bad_values, own_models, table

from recbole_gr import cli
from recbole_gr.integration.check_run import check_run
from recbole_gr.settings.field import allowed_values
from recbole_gr.settings.recbole_keys import read_recbole_properties, recbole_folder, recbole_model_names
from recbole_gr.settings.recbole_models import model_faults, model_fields
from recbole_gr.settings.recbole_values import LEARNERS, METRICS, VALUES, recbole_faults
from recbole_gr.settings.values import MERGED, parse_text
from recbole_gr.utils.errors import RecBoleGRError

TABLE = list(table())
PARTS = 8  # tests that may run at once


def refused(capsys, arguments):
    """The line that a command is refused with."""
    status = cli.main(["run", "--dataset=small", "--data_path=data", *arguments])
    stderr = capsys.readouterr().err
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and "Traceback" not in stderr, f"{arguments}: {status}, {stderr}"
    return lines[0]


@pytest.fixture
def data(smaller_part, tmp_path):
    """The small data as ``data/small``."""
    (tmp_path / "data").symlink_to(smaller_part[1])


def test_the_corpus_is_large_and_leaves_no_setting_out():
    by_key = {key: bad_values(key, info) for _, key, info in TABLE}
    assert all(by_key.values())
    assert len(by_key) >= 450 and sum(map(len, by_key.values())) >= 2000


@pytest.mark.parametrize("part", range(PARTS))
def test_values_made_from_the_table_are_refused(data, capsys, part):
    for run, key, info in TABLE[part::PARTS]:
        for value in bad_values(key, info):
            line = refused(capsys, [*run, f"--{key}={value}"])
            named = (
                f"{key}={{" if key in MERGED and "{" in value else f"{key}={parse_text(value)!r}: "
            )  # a part is put with the others
            assert line.startswith(f"error: {named}"), line
            assert any(word in line for word in ("must", "has no", "no such", "there is no")), line
            assert line.endswith("(set on the command line)"), line


@pytest.mark.parametrize("name", sorted(recbole_model_names()))
def test_what_recbole_itself_has_for_a_model_is_taken(name):
    own = read_recbole_properties(f"model/{name}")
    assert list(model_faults(name, own)) == [] and recbole_faults(own) == []


def test_the_table_has_all_keys_of_recbole():
    """Those of overall.yaml and of the datasets each in a class, those of models where the default tells a type."""
    known = {key for _, key, _ in TABLE} | {"data_path"}
    general = {*read_recbole_properties("overall"), *read_recbole_properties("dataset/sample")}
    assert general <= known
    untyped = set()
    for name in recbole_model_names():
        untyped |= {key for key in read_recbole_properties(f"model/{name}") if key not in known}
    # None, several types, a dict of another library's parameters
    assert untyped == {
        *("fields", "mf_pretrain_path", "mlp_pretrain_path", "pretrain_path", "reranker_CAN_NUM"),
    }


def test_names_are_those_of_recbole():
    from recbole.evaluator.register import metric_types
    from recbole.utils.enum_type import EvaluatorType

    assert set(METRICS) == set(metric_types) and len(EvaluatorType) == 2
    trainer = (recbole_folder() / "trainer" / "trainer.py").read_text()
    assert all(f'learner.lower() == "{learner}"' in trainer for learner in LEARNERS)
    assert trainer.count('learner.lower() == "') == len(LEARNERS)


@pytest.mark.parametrize("one", VALUES, ids=lambda one: one.__name__)
def test_recbole_defaults_are_taken(one):
    for name in ("overall", "dataset/sample", "dataset/ml-100k", "quick_start_config/sequential"):
        assert recbole_faults(read_recbole_properties(name)) == []
    assert recbole_faults(one.defaults()) == []


@pytest.mark.parametrize(
    "run, words",
    [
        ("--eval_args={'split':{'RS':[0.8,0.1,0.2]}}", "must sum to 1, not to 1.1"),
        ("--eval_args={'split':{'RS':[0.8,0.1]}}", "three numbers"),
        ("--eval_args={'split':{'RS':[0.8,-0.1,0.3]}}", "three numbers"),
        ("--eval_args={'split':{'RS':[0,0.5,0.5]}}", "three numbers"),
        ("--eval_args={'split':{'LS':'all'}}", "valid_and_test"),
        ("--eval_args={'split':{'LS':'test_only','RS':[1,0,0]}}", "one of LS, RS and TS"),
        ("--eval_args={'mode':'uni0'}", "uniN"),
        ("--eval_args={'mode':{'train':'full'}}", "by valid and test"),
        ("--eval_args={'order':'time'}", "order must be TO"),
        ("--eval_args={'group_by':'item'}", "group_by"),
        ("--eval_args=full", "must be a dict"),
        ("--clip_grad_norm=1.0", "must be a dict, {'max_norm': 1.0}"),
        ("--clip_grad_norm={'max':1.0}", "must be a dict, {'max_norm': 1.0}"),
        ("--clip_grad_norm={'max_norm':0}", "max_norm must be a number above 0"),
        ("--clip_grad_norm={'max_norm':1,'norm':2}", "has no part 'norm'"),
        ("--clip_grad_norm={'max_norm':1,'norm_type':'two'}", "norm_type must be a number above 0"),
        ("--clip_grad_norm={'max_norm':1,'error_if_nonfinite':1}", "error_if_nonfinite must be True or False"),
        ("--train_neg_sample_args=3", "must be a dict"),
        ("--train_neg_sample_args={'distribution':'normal'}", "uniform, popularity"),
        ("--train_neg_sample_args={'sample_num':0}", "sample_num must be a whole number of at least 1"),
        ("--train_neg_sample_args={'alpha':'one'}", "alpha must be a number"),
        ("--train_neg_sample_args={'dynamic':True}", "dynamic needs candidate_num"),
        ("--train_neg_sample_args={'samples':1}", "has no part 'samples'"),
        ("--train_neg_sample_args=None", "trained on pairs"),
        ("--user_inter_num_interval=[5,inf", "intervals of numbers"),
        ("--user_inter_num_interval=5", "intervals of numbers"),
        ("--user_inter_num_interval=[a,b]", "intervals of numbers"),
        ("--item_inter_num_interval=[9,3]", "lower end first"),
        ("--item_inter_num_interval=(0,1];[3", "intervals of numbers"),
        ("--item_inter_num_interval=[nan,1]", "intervals of numbers"),
        ("--val_interval=[1,2]", "by column"),
        ("--val_interval={'timestamp':'4+'}", "timestamp: must be intervals"),
        ("--val_interval={'timestamp':'[4,1]'}", "lower end first"),
        ("--val_interval={'user_id':[]}", "an empty list keeps nothing"),
        ("--val_interval={'user_id':'[0,1]'}", "user_id is a column of type token"),
        ("--val_interval={'rating':'[0,1]'}", "no column 'rating'"),
        ("--threshold={'rating':'four'}", "one column and a number"),
        ("--threshold={'rating':4,'age':3}", "one column and a number"),
        ("--rm_dup_inter=middle", "first, last, None"),
        ("--load_col=user_id", "lists of columns"),
        ("--load_col={'inter':'user_id'}", "lists of columns"),
        ("--unused_col=['user_id']", "lists of columns"),
        ("--seq_len={'title':0}", "whole numbers of at least 1"),
        ("--discretization={'timestamp':{'method':'ED'}}", "bucket"),
        ("--discretization={'timestamp':{'method':'XX'}}", "LD"),
        ("--preload_weight={'ent_id':3}", "ent_emb"),
        ("--alias_of_user_id=['friend']", "no column 'friend' of tokens"),
        ("--normalize_field=timestamp", "list of names"),
        ("--field_separator=", "must be text"),
        ("--encoding=rot13", "no such encoding"),
        ("--encoding=utf-9", "no such encoding"),
        ("--metrics=[]", "metrics=[]"),
        ("--metrics=['NDCG','Niceness']", "there is no metric 'Niceness'"),
        ("--metrics=['NDCG','AUC']", "can not be used at the same time"),
        ("--valid_metric=Recall@7", "must be one of metrics at one of topk"),
        ("--topk=[]", "whole numbers of at least 1"),
        ("--topk=[5,0]", "whole numbers of at least 1"),
        ("--topk=[5,5000]", "must be at most"),
        ("--learner=adamm", "sparse_adam"),
        ("--learner=sparse_adam", "needs sparse embeddings"),
        ("--transform=mask_itemseq", "needs the setting mask_ratio"),
        ("--state=loud", "info, debug, warning"),
        ("--gpu_id=first", "numbers of GPUs"),
        ("--gpu_id=1.5", "numbers of GPUs"),
        ("--seed=4294967296", "below 4294967296"),
        ("--USER_ID_FIELD=item_id", "ITEM_ID_FIELD has this name already"),
        ("--LABEL_FIELD=timestamp", "TIME_FIELD has this name already"),
        ("--model=SASRec --ITEM_LIST_LENGTH_FIELD=item_id", "ITEM_ID_FIELD has this name already"),
        ("--ITEM_ID_FIELD=timestamp --TIME_FIELD=item_id", "must be a column of type token"),
        ("--model=SASRec --n_heads=3", "not a multiple of the number of attention heads"),
        ("--model=SASRec --loss_type=CEE", "must be one of CE, BPR"),
        ("--model=NeuMF --mlp_hidden_size=[64,0]", "list of whole numbers of at least 1, for example [128, 64]"),
        ("--model=NeuMF --mlp_hidden_size=64", "list of whole numbers"),
        ("--model=FDSA", "needs the column 'class' (selected_features=['class'])"),
        ("--model=LR", "mode labeled needs the column label (LABEL_FIELD)"),
        ("--metrics=['AUC'] --valid_metric=AUC --eval_args={'mode':'labeled'}", "mode labeled needs the column label"),
        ("--model=KGAT", "[small.kg] not found"),
        ("--normalize_field=['price']", "Field [price] does not exist"),
        ("--embedding_size=100000000000", "embedding_size=100000000000: BPR needs"),
        ("--embedding_size=100000000000000000000", "embedding_size=100000000000000000000"),
        ("--user_inter_num_interval=[100,inf)", "nothing is left of small.inter after the filters: user_inter_num_interval"),
        ("--val_interval={'timestamp':'[0,1]'}", "nothing is left of small.inter after the filters: val_interval"),
        ("--val_interval={'user_id':['nobody']}", "nothing is left of small.inter after the filters: val_interval"),
    ],
)
def test_values_written_by_hand_are_refused(data, capsys, run, words):
    model = [] if "--model" in run else ["--model=BPR"]
    line = refused(
        capsys, [*model, "--show_progress=False", *run.split(" --")[:1], *(f"--{more}" for more in run.split(" --")[1:])]
    )
    assert words in line, line


KEYS = sorted({key for _, key, _ in TABLE} | {"model", "dataset", "data_path", "no_such_key"})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["TO", "LS", "[0,1]", "full"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.sampled_from(["split", "mode"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    model=st.sampled_from([*own_models(), "BPR", "SASRec", "DeepFM"]),
    given_values=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4),
)
def test_whatever_is_set_is_taken_or_refused(data, model, given_values):
    given_values = {key: value for key, value in given_values.items() if key not in ("model", "dataset")}
    try:
        check_run(model, "small", None, {"data_path": "data", **given_values}, arguments=[])
    except RecBoleGRError as error:
        assert str(error)


def test_allowed_values_are_words():
    for _, key, info in TABLE:
        assert allowed_values(info), key
        assert model_fields("Pop") == {}
