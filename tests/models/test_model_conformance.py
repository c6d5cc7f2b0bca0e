"""Our own models do what every model must do."""

from support.model_tests import GenerativeModelTests, ModelTests


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
