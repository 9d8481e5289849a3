"""The planted model for the tests of this room."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `from planted import ...`

from planted import Planted, plant


@pytest.fixture(scope="session")
def planted(byte_tokenizer) -> Planted:
    """The planted model without a skip."""
    return plant(byte_tokenizer)


@pytest.fixture(scope="session")
def planted_skip(byte_tokenizer) -> Planted:
    """The planted model with a coder that has a skip."""
    return plant(byte_tokenizer, skip=True)
