"""Which architecture of TIGER goes with which history."""

import pytest

from recbole_gr.models.tiger.settings import NetworkSettings, TIGERSettings, history_is_causal, history_position
from recbole_gr.settings.field import RunValues


def values(**settings):
    return RunValues({**TIGERSettings.defaults(), **settings})


def faults(**settings):
    found = [fault for concern in (NetworkSettings, TIGERSettings) for fault in concern.conflicts(values(**settings))]
    return [f"{fault.key}={fault.value}: {fault.allowed}" for fault in found]


@pytest.mark.parametrize(
    "settings, position, causal",
    [
        ({}, "item", True),
        ({"loss_positions": "last"}, "item", False),
        ({"loss_positions": "last", "history_attention": "causal"}, "item", True),
        ({"history_position": "code"}, "code", True),
        ({"architecture": "temporal_depth"}, "item", True),
        ({"architecture": "decoder_only"}, "code", True),
        ({"architecture": "decoder_only", "loss_positions": "last"}, "code", True),
        ({"architecture": "prefix_lm", "loss_positions": "last"}, "code", False),
        # of checkpoints from before there was a choice
        (
            {"architecture": None, "loss_positions": None, "history_attention": None, "history_position": "item"},
            "item",
            False,
        ),
        (
            {"architecture": None, "loss_positions": None, "history_attention": None, "history_position": "code"},
            "code",
            False,
        ),
    ],
)
def test_what_is_not_set_follows_from_what_is(settings, position, causal):
    if "architecture" not in settings or settings["architecture"]:
        assert faults(**settings) == []
    assert (history_position(values(**settings)), history_is_causal(values(**settings))) == (position, causal)


@pytest.mark.parametrize(
    "settings, fault",
    [
        ({"separator": True}, "separator=True: needs history_position=code"),
        (
            {"architecture": "decoder_only", "separator": True},
            "separator=True: must be False with architecture=decoder_only, which has a begin token",
        ),
        (
            {"architecture": "decoder_only", "history_position": "item"},
            "history_position=item: must be auto or code with architecture=decoder_only",
        ),
        (
            {"architecture": "decoder_only", "history_attention": "bidirectional"},
            "history_attention=bidirectional: must be auto or causal with architecture=decoder_only; architecture=prefix_lm has",
        ),
        (
            {"architecture": "prefix_lm", "loss_positions": "last", "history_attention": "causal"},
            "history_attention=causal: must be auto or bidirectional with architecture=prefix_lm; architecture=decoder_only has",
        ),
        ({"architecture": "prefix_lm"}, "architecture=prefix_lm: needs loss_positions=last"),
        (
            {"architecture": "prefix_lm", "history_attention": "bidirectional"},
            "architecture=prefix_lm: needs loss_positions=last",
        ),
        (
            {"architecture": "temporal_depth", "history_position": "code"},
            "history_position=code: architecture=temporal_depth",
        ),
        ({"history_attention": "bidirectional"}, "loss_positions=all: needs history_attention=causal"),
    ],
)
def test_what_cannot_work_is_one_fault(settings, fault):
    (found,) = faults(**settings)
    assert found.startswith(fault)
