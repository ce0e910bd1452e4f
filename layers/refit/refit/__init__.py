"""Refit keeps scikit-learn models fresh: pure decisions here, AWS at the edge in `refit.aws`."""

__version__ = "0.1.0"
