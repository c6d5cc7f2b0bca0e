"""recbole_gr: generative recommenders under RecBole's own splits, trainers and metrics.

Importing this package is all it takes: RecBole is patched for today's numpy, torch, scipy and ray
(:mod:`recbole_gr.integration.compat`), and its functions find our models by name (:mod:`recbole_gr.integration.plugin`).
Both wait until RecBole is imported, so that the import itself costs next to nothing.
"""

import importlib
from typing import Any

from recbole_gr.integration import compat, plugin, processes, untrusted
from recbole_gr.version import __version__

compat.apply()
untrusted.apply()
plugin.apply()
processes.apply()

#: Where the public names are; they are imported when they are asked for.
_PUBLIC = {
    "run": "recbole_gr.experiment.run",
    "load": "recbole_gr.recommend.recommender",
    "ModelSpec": "recbole_gr.models.registry",
    "register": "recbole_gr.models.registry",
}

__all__ = ["ModelSpec", "__version__", "load", "register", "run"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
