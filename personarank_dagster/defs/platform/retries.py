"""Which failures of a step are tried again: those of devices and connections, which may pass. Others end it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from personarank_dagster.core.errors import PersonarankError, StorageError

RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

# A full disk is not among them: waiting does not empty it.
PASSING_ERRNOS = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ENETUNREACH, errno.EHOSTUNREACH}

# Classes of torch and of botocore, which are no OSErrors, by name: neither is imported to look.
PASSING_CLASSES = {"OutOfMemoryError", "AcceleratorError", "ConnectionError", "HTTPClientError"}


@contextmanager
def retried_if_passing() -> Iterator[None]:
    """Leave errors that may pass to the retry policy; turn any other into a failure without retries."""
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except Exception as error:
        if may_pass(error):
            raise
        raise dg.Failure(str(error), allow_retries=False) from error


def may_pass(error: BaseException) -> bool:
    """Whether the error, or what caused it, is one of a device, a connection or an input/output that may recover."""
    if isinstance(error, PersonarankError) and not isinstance(error, StorageError):
        return False
    if PASSING_CLASSES & {base.__name__ for base in type(error).__mro__} or "CUDA error" in str(error):
        return True
    if isinstance(error, OSError):
        return isinstance(error, TimeoutError) or error.errno in PASSING_ERRNOS
    return error.__cause__ is not None and may_pass(error.__cause__)
