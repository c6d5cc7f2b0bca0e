"""Floating-point operations of a training, and what a probe says of a run before it."""

import json

import pytest
import torch

from recbole_gr.experiment.flops import flops_of_step
from recbole_gr.experiment.probe import probe
from recbole_gr.experiment.run import run


class Layer(torch.nn.Module):
    """Two linear layers; the data needs no gradient."""

    def __init__(self, several=False):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(16, 4, bias=False)
        self.several = several

    def calculate_loss(self, batch):
        loss = self.second(self.first(batch)).sum()
        return (loss, loss * 2) if self.several else loss


@pytest.mark.parametrize("several", [False, True])
def test_of_a_step(several):
    """A product of matrices is 2 m n k: once forward; backward once for the weights, once for what goes in if a layer is before."""
    layer = Layer(several).eval()
    forward = 2 * 32 * (8 * 16 + 16 * 4)
    backward = 2 * 32 * (8 * 16 + 2 * 16 * 4)
    assert flops_of_step(layer, torch.ones(32, 8)) == forward + backward * (1 + several)
    assert not layer.training and layer.first.weight.grad is None


def test_a_record_and_a_probe_agree(small_part, tiny_settings):
    """The probe sees other batches of the same data, and semantic IDs that are drawn."""
    settings = {**tiny_settings, "record_dir": "records"}
    cost = probe("TIGER", "small", settings)
    record = json.load(open(run("TIGER", "small", config_dict=settings)["record"]))
    assert cost.flops == pytest.approx(record["training_flops"], rel=0.3) and cost.flops > 1e8
    assert cost.parameters == pytest.approx(record["parameters"], rel=0.1)
    assert cost.training > 0 and cost.evaluation > 0 and cost.seconds == cost.training + cost.evaluation + cost.start
