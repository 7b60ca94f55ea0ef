"""A home with a folder for settings."""

import pytest

from flex_assist.locations import Locations, locate


@pytest.fixture
def locations() -> Locations:
    """The test's own folders; that of the settings is there."""
    found = locate()
    found.config.mkdir(parents=True)
    return found
