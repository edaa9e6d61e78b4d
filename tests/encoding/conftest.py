import pytest

from tests.tiny_models import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random two-layer BERT of 16 dimensions as a sentence-transformers directory: trains in milliseconds."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))
