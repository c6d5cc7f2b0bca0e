"""The scaling law of arXiv 2509.25522: fitted to points, with intervals for what the points tell and words for what they do not.

Plain numpy and scipy: it knows sizes and accuracies, and neither boards nor models.
"""
