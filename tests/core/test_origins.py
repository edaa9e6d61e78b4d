import pytest

from personarank_dagster.core.origins import Origins, own_origins

EVIL = [(["evil.example"], []), (["127.0.0.1"], ["http://evil.example"]), ([], []), (["127.0.0.1", "127.0.0.1"], [])]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "localhost", "LOCALHOST:80"])
def test_at_the_default_port_a_browser_leaves_it_out_and_is_answered(host: str) -> None:
    origins = Origins(own_origins(80, None))
    assert origins.refusal([host], [f"http://{host}"]) is None
    assert origins.refusal([host], [f"https://{host}"]) is not None


@pytest.mark.parametrize(("hosts", "origins"), EVIL)
def test_other_names_and_pages_are_refused_at_the_default_port(hosts: list[str], origins: list[str]) -> None:
    assert Origins(own_origins(80, None)).refusal(hosts, origins) is not None


def test_the_port_is_left_out_at_the_default_of_the_scheme_alone() -> None:
    origins = Origins(own_origins(3000, "https://UI.example.org:443/"))
    assert origins.refusal(["ui.example.org"], ["https://ui.example.org"]) is None
    for host in ("127.0.0.1", "127.0.0.1:80", "ui.example.org:80", "ui.example.org:3000"):
        assert origins.refusal([host], []) is not None
