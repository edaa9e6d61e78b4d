"""The Dagster instance of this project: what its database answers is an error of ours."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from personarank_dagster.core.errors import StorageError

# What an operating system answers where Dagster writes files of its own, such as logs.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of $DAGSTER_HOME. Raises StorageError if its database or its folder cannot be used."""
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in UNWRITABLE:
            raise
        raise StorageError(
            f"DAGSTER_HOME {os.environ.get('DAGSTER_HOME')}: Dagster cannot keep its runs: {_reason(error)}; "
            "published outputs are as they were; make space or mend the database, and run again"
        ) from error


def _reason(error: Exception) -> str:
    """What the database says, without the statement and its values."""
    return " ".join(str(getattr(error, "orig", None) or error).split())
