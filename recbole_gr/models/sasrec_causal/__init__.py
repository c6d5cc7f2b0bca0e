"""SASRecCausal: SASRec's network, trained by a full softmax at every position."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.sasrec_causal.model:SASRecCausal",
        settings="recbole_gr.models.sasrec_causal.settings:SASRecCausalSettings",
        dataset="recbole_gr.data.dataset:HistoryDataset",
        trainer="recbole_gr.models.history_trainer:HistoryTrainer",
    )
)
