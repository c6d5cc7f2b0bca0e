"""HSTU (arXiv 2402.17152): pointwise SiLU attention with a bias of position and time, and gating in place of a feed-forward layer."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.hstu.model:HSTU",
        settings="recbole_gr.models.hstu.settings:HSTUSettings",
        dataset="recbole_gr.data.dataset:TimedHistoryDataset",
        trainer="recbole_gr.models.history_trainer:HistoryTrainer",
    )
)
