"""How many examples a property test tries."""

from typing import Any

from hypothesis import settings

FEWEST = 20
"""A smaller share of the examples would miss most kinds of them."""


def max_examples(count: int, **options: Any) -> settings:
    """Return the settings of a test that tries `count` examples, or a share of them if the profile has fewer than 100."""
    share = count * settings.default.max_examples // 100
    return settings(max_examples=max(share, min(count, FEWEST)), deadline=None, **options)
