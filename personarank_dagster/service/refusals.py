"""Requests that are not answered: a status and one sentence."""

from personarank_dagster.core.errors import PersonarankError


class RefusedError(PersonarankError):
    """A request that breaks a rule of the service."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        self.status, self.headers = status, headers
        super().__init__(message)
