"""recbole_gr: generative recommenders under RecBole's own splits, trainers and metrics.

Importing this package is all it takes: RecBole is mended for today's numpy, torch, scipy and ray (:mod:`compat`), and
our models are registered (:mod:`plugin`), so that RecBole's own functions find them by name.
"""

from recbole_gr.integration import compat
from recbole_gr.version import __version__

compat.apply()

from recbole_gr.integration import plugin  # noqa: E402  RecBole can only be imported once it is mended

plugin.register()

__all__ = ["__version__"]
