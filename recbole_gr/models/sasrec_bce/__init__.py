"""SASRecBCE: RecBole's SASRec with the loss of its paper."""

from recbole_gr.models.registry import ModelSpec, register

register(
    ModelSpec(
        model="recbole_gr.models.sasrec_bce.model:SASRecBCE",
        settings="recbole_gr.models.sasrec_bce.settings:SASRecBCESettings",
    )
)
