"""LLMasRS: a causal language model that reads the titles of a history and generates the next one."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.llmasrs.model:LLMasRS",
        settings="recbole_gr.models.llmasrs.settings:LLMasRSSettings",
        dataset="recbole_gr.models.llmasrs.dataset:LLMasRSDataset",
        trainer="recbole_gr.models.llmasrs.trainer:LLMasRSTrainer",
    )
)
