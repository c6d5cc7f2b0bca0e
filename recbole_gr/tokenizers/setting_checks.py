"""What the settings of our tokenizers may be, whatever the vectors."""

from recbole_gr.settings.checks import check_choice, check_number, check_switch, check_whole_number
from recbole_gr.utils.errors import SettingError
from recbole_gr.tokenizers.gradient_estimators import ESTIMATORS
from recbole_gr.tokenizers.quantiser_training import LEARNERS, ORDERS
from recbole_gr.tokenizers.trained import CODEBOOK_UPDATES

CHOICES = {
    "tokenizer_learner": tuple(LEARNERS),
    "tokenizer_training": ORDERS,
    "codebook_update": CODEBOOK_UPDATES,
    "quantiser_gradient": tuple(ESTIMATORS),
}
SWITCHES = ("normalise_residual", "kmeans_balanced")
AT_LEAST = {
    "kmeans_iterations": 1,
    "opq_iterations": 1,
    "tokenizer_steps": 1,
    "tokenizer_batch_size": 1,
    "dead_code_steps": 0,
    "rqvae_latent": 1,
}
BOUNDS = {
    "tokenizer_learning_rate": {"above": 0},
    "ema_decay": {"least": 0, "below": 1},
    "commitment": {"least": 0},
}


def check_tokenizer_settings(settings):
    """Check those settings that are ours.

    Args:
        settings (dict): by key; others than ours are left alone.

    Raises:
        SettingError
    """
    for key, value in settings.items():
        if key in CHOICES:
            check_choice(key, value, CHOICES[key])
        elif key in SWITCHES:
            check_switch(key, value)
        elif key in AT_LEAST:
            check_whole_number(key, value, AT_LEAST[key])
        elif key in BOUNDS:
            check_number(key, value, **BOUNDS[key])
        elif key == "rqvae_hidden" and not _are_widths(value):
            raise SettingError(key, value, "must be a list of whole numbers of at least 1, [] for a single layer")


def _are_widths(value):
    return isinstance(value, (list, tuple)) and all(type(width) is int and width >= 1 for width in value)
