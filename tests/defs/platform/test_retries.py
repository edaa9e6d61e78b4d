import errno
from collections.abc import Iterator

import dagster as dg
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from personarank_dagster.core.errors import ContractError, EncoderError, InputError, StorageError
from personarank_dagster.definitions import project
from personarank_dagster.defs.graph import all_assets
from personarank_dagster.defs.platform.retries import RETRIES, may_pass, retried_if_passing

FAST = dg.RetryPolicy(max_retries=2)


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (caused(StorageError("cannot be written"), OSError(errno.EIO, "")), True),
        (caused(StorageError("the object store answered"), EndpointConnectionError(endpoint_url="s3")), True),
        (caused(StorageError("the object store answered"), ReadTimeoutError(endpoint_url="s3")), True),
        (caused(StorageError("the object store answered"), NoCredentialsError()), False),
        (OSError(errno.ENOSPC, "no space left"), False),
        (FileNotFoundError(errno.ENOENT, ""), False),
        (caused(InputError("cannot be read"), OSError(errno.EIO, "")), False),
        (caused(EncoderError("cannot be loaded"), ConnectionError()), False),
        (ContractError("must be unique"), False),
        (TypeError("a mistake of ours"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, expected: bool) -> None:
    assert may_pass(error) is expected


@pytest.mark.parametrize(("error", "attempts"), [(ConnectionResetError("gone"), 3), (InputError("line 7"), 1)])
def test_a_step_is_tried_as_often_as_its_error_deserves(error: Exception, attempts: int) -> None:
    tried: Iterator[int] = iter(range(9))

    @dg.asset(retry_policy=FAST)
    @retried_if_passing()
    def failing() -> None:
        next(tried)
        raise error

    result = dg.materialize([failing], raise_on_error=False, instance=dg.DagsterInstance.ephemeral())
    assert not result.success
    assert next(tried) == attempts


def test_every_asset_backs_off_exponentially() -> None:
    computed = [asset for asset in all_assets(project.mount) if isinstance(asset, dg.AssetsDefinition)]
    assert {asset.op.retry_policy for asset in computed} == {RETRIES}
    assert (RETRIES.backoff, RETRIES.max_retries, RETRIES.delay) == (dg.Backoff.EXPONENTIAL, 3, 5)
