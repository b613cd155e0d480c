"""The published losses of pairs, which `train` and the bandit share: see `derivations.published`."""

from derivations.published import PUBLISHED, Published, make_published

__all__ = ["PUBLISHED", "Published", "make_published"]
