import sys

import pytest

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.distributed.cluster import Cluster, address_here, joined


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSONARANK_RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_here() == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert address_here() == "head:6379"
    monkeypatch.setenv("PERSONARANK_RAY_ADDRESS", "local")
    assert address_here() == "local"


def test_rays_client_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigError, match="work of Ray's client outlives a run that is killed"):
        address_here()


def test_without_ray_there_is_one_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"^engine ray: Ray is not installed here; pip install '.*\[ray\]'"):
        joined(Cluster())
