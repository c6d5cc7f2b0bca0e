"""Our own models do what every model must do."""

from support.model_tests import GenerativeModelTests, ModelTests


class TestTIGER(GenerativeModelTests):
    model = "TIGER"


class TestTIGERPerCode(GenerativeModelTests):
    model = "TIGER"
    settings = {"history_position": "code", "separator": True, "user_buckets": 5, "collision": "none"}


class TestLLMasRS(GenerativeModelTests):
    model = "LLMasRS"
    settings = {"scratch_size": "tiny", "scratch_vocabulary": 400, "MAX_ITEM_LIST_LENGTH": 4, "epoch_samples": 128}
    without = ("item_vector_file", "codebook_size")


class TestSASRecBCE(ModelTests):
    model = "SASRecBCE"
    settings = {"hidden_size": 16, "inner_size": 16, "epochs": 2}
