"""RPG (arXiv 2506.05781): predicts all codes of the next item at once, each by a head of its own."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.rpg.model:RPG",
        settings="recbole_gr.models.rpg.settings:RPGSettings",
        dataset="recbole_gr.data.dataset:SemanticIDDataset",
        trainer="recbole_gr.models.trainer:BeamSearchTrainer",
    )
)
