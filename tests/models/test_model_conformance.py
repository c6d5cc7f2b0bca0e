"""Our own models do what every model must do."""

from support.model_tests import GenerativeModelTests, ItemModelTests, ModelTests


class TestTIGER(GenerativeModelTests):
    model = "TIGER"


class TestTIGERPerCode(GenerativeModelTests):
    model = "TIGER"
    settings = {"history_position": "code", "separator": True, "user_buckets": 5, "collision": "none"}


class TestTIGERBidirectional(GenerativeModelTests):
    model = "TIGER"
    settings = {"loss_positions": "last", "history_attention": "bidirectional"}


class TestTIGERCausal(GenerativeModelTests):
    model = "TIGER"
    settings = {"loss_positions": "last", "history_attention": "causal"}


class TestTIGERDecoderOnly(GenerativeModelTests):
    model = "TIGER"
    settings = {"architecture": "decoder_only", "user_buckets": 5}


class TestTIGERPrefixLM(GenerativeModelTests):
    model = "TIGER"
    settings = {"architecture": "prefix_lm", "loss_positions": "last", "user_buckets": 5}


class TestTIGERTemporalDepth(GenerativeModelTests):
    model = "TIGER"
    settings = {"architecture": "temporal_depth", "user_buckets": 5}


class TestTIGERTemporalDepthLast(GenerativeModelTests):
    model = "TIGER"
    settings = {"architecture": "temporal_depth", "loss_positions": "last"}


class TestLIGER(GenerativeModelTests):
    """With so many candidates that every item is one; tests of its own have fewer."""

    model = "LIGER"
    settings = {"liger_candidates": 1000, "beam_size": 1000}


class TestLIGERTemporalDepth(GenerativeModelTests):
    model = "LIGER"
    inputs = {"architecture": "temporal_depth", "inject": "text_cf", "cf_dimension": 4}
    settings = {**inputs, "liger_candidates": 1000, "beam_size": 1000}


class TestLLMasRS(GenerativeModelTests):
    model = "LLMasRS"
    settings = {"scratch_size": "tiny", "scratch_vocabulary": 400, "MAX_ITEM_LIST_LENGTH": 4, "epoch_samples": 128}
    without = ("item_vector_file", "codebook_size")


class TestLLMasRSAligned(GenerativeModelTests):
    model = "LLMasRS"
    settings = {
        **{"scratch_size": "tiny", "scratch_vocabulary": 400, "MAX_ITEM_LIST_LENGTH": 4, "epoch_samples": 128},
        **{"item_as": "sid", "alignment_tasks": {"title_to_id": 0.3, "titles_to_id": 0.2, "ids_to_title": 0.1}},
    }


class TestIDGenRec(GenerativeModelTests):
    model = "IDGenRec"


class TestIDGenRecPerWord(GenerativeModelTests):
    model = "IDGenRec"
    settings = {"loss_positions": "last", "history_position": "word", "feed_forward": "gated"}


class TestSASRecBCE(ModelTests):
    model = "SASRecBCE"
    settings = {"hidden_size": 16, "inner_size": 16, "epochs": 2}


class TestHSTU(ItemModelTests):
    model = "HSTU"
    settings = {"hidden_size": 16, "n_layers": 2}


class TestHSTUSampledLast(ItemModelTests):
    model = "HSTU"
    settings = {
        **{"hidden_size": 16, "loss_positions": "last", "time_bias": False},
        **{"softmax": "sampled", "n_negatives": 30, "similarity": "cosine"},
    }


class TestSASRecCausal(ItemModelTests):
    model = "SASRecCausal"
    settings = {"hidden_size": 16, "inner_size": 16, "n_layers": 2}


class TestRPG(GenerativeModelTests):
    model = "RPG"
    settings = {"codebook_num": 4}


class TestRPGByGraph(ModelTests):
    """The beams' tests are for those that find everything; what the walk must find is in test_rpg_ranking.py."""

    model = "RPG"
    settings = {"codebook_num": 4, "digits_per_step": 2, "ranking": "graph", "graph_neighbours": 8, "graph_starts": 40}
