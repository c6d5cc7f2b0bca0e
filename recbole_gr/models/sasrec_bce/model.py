r"""SASRecBCE: SASRec with the loss of its paper.

Reference:
    Wang-Cheng Kang, Julian McAuley. "Self-Attentive Sequential Recommendation." in ICDM 2018, section III-E.

RecBole's SASRec has softmax cross-entropy over all items or BPR. The paper, and most tables that quote a "SASRec", have
binary cross-entropy of the next item and one sampled item: another, weaker baseline.
"""

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec


class SASRecBCE(SASRec):
    """RecBole's SASRec, trained by binary cross-entropy; ``loss_type: BPR`` in its yaml makes RecBole draw the items."""

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean of ``-log sigmoid(score of the target)`` and ``-log sigmoid(-score of the sampled item)`` over the batch."""
        history, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        items = torch.stack([interaction[self.POS_ITEM_ID], interaction[self.NEG_ITEM_ID]], dim=1)
        scores = (self.forward(history, length).unsqueeze(1) * self.item_embedding(items)).sum(dim=-1)
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1
        return F.binary_cross_entropy_with_logits(scores, wanted)
