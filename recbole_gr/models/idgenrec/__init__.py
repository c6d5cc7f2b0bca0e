"""IDGenRec: each item has a short textual ID, and a recommender generates that of the next item."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.idgenrec.model:IDGenRec",
        settings="recbole_gr.models.idgenrec.settings:IDGenRecSettings",
        dataset="recbole_gr.models.idgenrec.dataset:IDGenRecDataset",
        trainer="recbole_gr.models.idgenrec.trainer:IDGenRecTrainer",
    )
)
