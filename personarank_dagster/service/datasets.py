"""The datasets that are served: each with its reranker and the texts of its personas, as far as published."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import PersonarankError, reason_of
from personarank_dagster.service.persona_texts import PERSONAS, PersonaTexts
from personarank_dagster.service.refusals import RefusedError
from personarank_dagster.serving.following import RETRY_SECONDS, Following
from personarank_dagster.serving.published import Pointers, Published
from personarank_dagster.serving.reranker import Reranker
from personarank_dagster.storage.versions import STAMP


@dataclass(frozen=True)
class Place:
    """Name of a dataset, its folder, and the bucket if its outputs lie in one."""

    name: str
    folder: Path
    bucket: str | None = None

    @classmethod
    def of(cls, config: DatasetConfig) -> "Place":
        """Where the outputs of a configured dataset lie."""
        return cls(config.name, config.data.out_root, config.bucket)

    def open(self) -> Reranker:
        """Raises StorageError if there is nothing to serve."""
        return Reranker.open(self.bucket, self.folder / "copies") if self.bucket else Reranker.open(self.folder)


class Dataset:
    """One dataset; until it is published whole, `problem` says what is missing, and it is looked for."""

    def __init__(self, place: Place) -> None:
        self.name, self._place = place.name, place
        self.reranker: Reranker | None = None
        self.problem: str | None = "is being opened"
        self._texts: Following[PersonaTexts] | None = None
        self._opening = threading.Lock()
        self._try_again = 0.0

    def open(self) -> None:
        """Open what is published, once more if that failed before."""
        if not self._opening.acquire(blocking=False):
            return
        try:
            reranker = self._place.open()
            # Compiled code is loaded before the first request.
            reranker.rerank("", [("", 0.0), (" ", 1.0)])
            self._texts = _follow_texts(reranker.published)
            self.reranker, self.problem = reranker, None
        except (PersonarankError, OSError) as error:
            self.problem, self._try_again = reason_of(error), time.monotonic() + RETRY_SECONDS
        finally:
            self._opening.release()

    def keep_up(self) -> None:
        """Look for new versions, and for a first one; returns at once."""
        if self.reranker is not None:
            self.reranker.following.current()
            if self._texts is not None:
                self._texts.current()
        elif time.monotonic() >= self._try_again:
            threading.Thread(target=self.open, daemon=True).start()

    @property
    def texts(self) -> PersonaTexts | None:
        """Texts of the personas, if they are published."""
        return self._texts.current() if self._texts else None

    @property
    def published(self) -> Published:
        """Its outputs. Raises RefusedError if there are none."""
        return self.ready().published

    def ready(self) -> Reranker:
        """The reranker. Raises RefusedError if there is none yet."""
        if self.reranker is None:
            raise RefusedError(503, f"dataset {self.name} is not ready: {self.problem}", retry_after="5")
        return self.reranker

    @property
    def version(self) -> str | None:
        """Name of the version that is served."""
        return self.reranker.following.current().version if self.reranker else None

    @property
    def age(self) -> float:
        """Seconds since that was published."""
        stamp = datetime.strptime((self.version or "").split("-")[0], STAMP).replace(tzinfo=UTC)
        return (datetime.now(UTC) - stamp).total_seconds()


class Datasets:
    """All that are served, by name."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.by_name: Mapping[str, Dataset] = {place.name: Dataset(place) for place in places}
        self._only = next(iter(self.by_name.values())) if len(places) == 1 else None

    def named(self, name: str | None) -> Dataset:
        """A dataset, or the only one. Raises RefusedError."""
        if name is None and self._only is not None:
            return self._only
        if name is None:
            raise RefusedError(400, f"dataset must be given, one of {', '.join(self.by_name)}")
        if (found := self.by_name.get(name)) is None:
            raise RefusedError(404, f"unknown dataset {name!r}; served are {', '.join(self.by_name)}")
        return found


def _follow_texts(published: Published) -> Following[PersonaTexts] | None:
    """Explanations go without texts where no personas are published."""
    try:
        return Following(Pointers(published, (PERSONAS,)), lambda: PersonaTexts.open(published))
    except PersonarankError:
        return None
