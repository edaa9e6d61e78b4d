from pathlib import Path

import numpy as np
import pytest

from personarank_dagster.storage.disk import file_sha256
from personarank_dagster.storage.hashing_writer import HashedFile


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (20, 5000), dtype=np.uint8)
    with HashedFile(tmp_path / "file") as file:
        file.write(b"header")
        for block in blocks:
            file.write(block.data)
    assert (tmp_path / "file").read_bytes() == b"header" + blocks.tobytes()
    assert file.sha256 == file_sha256(tmp_path / "file")


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_disk_is_an_error(size: int) -> None:
    with pytest.raises(OSError, match="No space left"), HashedFile(Path("/dev/full")) as file:
        file.write(bytes(size))


def test_an_error_in_the_writer_is_raised_as_it_is(tmp_path: Path) -> None:
    def write() -> None:
        with HashedFile(tmp_path / "file") as file:
            file.write(b"x")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        write()
