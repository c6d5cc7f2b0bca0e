"""LIGER (arXiv 2411.18814): generates a short list by semantic IDs, adds the cold items, and ranks both by text vectors."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.liger.model:LIGER",
        settings="recbole_gr.models.liger.settings:LIGERSettings",
        dataset="recbole_gr.data.dataset:SemanticIDDataset",
        trainer="recbole_gr.models.trainer:BeamSearchTrainer",
    )
)
