"""What a shell offers where a name is typed."""

import pytest
from click.shell_completion import ShellComplete

from personarank_dagster.command_line.cli import main
from personarank_dagster.command_line.completion import VARIABLE, script_of
from tests.workspace import ROOT


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an offered name looks at is set for this process; it is put back after a test."""
    for variable, place in (("PERSONARANK_CONFIG_DIR", str(ROOT / "configs")), ("PERSONARANK_OUT_ROOT", "")):
        monkeypatch.setenv(variable, place)


def offered(*arguments: str) -> list[str]:
    completion = ShellComplete(main, {}, "personarank", VARIABLE)
    return [one.value for one in completion.get_completions([*arguments[:-1]], arguments[-1])]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    assert VARIABLE in script_of(shell, main)


def test_commands_partitions_and_assets_are_offered() -> None:
    assert "versions" in offered("ver")
    assert offered("run", "--partition", "ya") == []
    assert offered("run", "--partition", "ye") == ["yelp"]
    assert offered("versions", "rerank") == ["reranked_candidates", "rerank_metrics"]
    assert offered("run", "--select", "personas,interaction_") == ["personas,interaction_cache"]


def test_a_mistake_before_offers_nothing() -> None:
    assert offered("rollback", "histories", "books", "2") == []
    assert offered("run", "--config-dir", "/gone", "--partition", "") == []
