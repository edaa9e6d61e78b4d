"""Who gets a new order: a share of the users, or nobody while both orders are only logged."""

from dataclasses import dataclass

import xxhash

from personarank_dagster.service.messages import Arm

SCALE = 2.0**64


@dataclass(frozen=True)
class Arms:
    """The arm of a user by the hash of dataset and id, the same in every process and after every start."""

    share: float = 1.0
    shadow: bool = False

    def of(self, dataset: str, key: str) -> Arm:
        """Arm of a user, or of a request without one by its recommendation id."""
        if self.shadow:
            return "shadow"
        if self.share >= 1.0:
            return "reranked"
        place = xxhash.xxh3_64_intdigest(f"{dataset}\0{key}".encode()) / SCALE
        return "reranked" if place < self.share else "candidates"
