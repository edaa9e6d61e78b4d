from collections.abc import Iterator

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage


@pytest.fixture(autouse=True)
def _no_instance_of_an_earlier_test() -> Iterator[None]:
    """Dagster remembers the instance that was opened last, also when it is gone, if others were opened around it."""
    with set_defs_state_storage(None):
        yield
