"""TIGER (arXiv 2305.05065): generates the semantic ID of the next item code by code."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.tiger.model:TIGER",
        settings="recbole_gr.models.tiger.settings:TIGERSettings",
        dataset="recbole_gr.data.dataset:SemanticIDDataset",
        trainer="recbole_gr.models.trainer:BeamSearchTrainer",
    )
)
