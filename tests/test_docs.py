"""Every command and link in the documents: commands parse, targets and files are there (`make docs-check`)."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from personarank_dagster.command_line.cli import main
from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.configuration.settings import (
    RAW_FILE_KEYS,
    RerankConfig,
    RetrieverConfig,
    ScheduleConfig,
    TrainConfig,
)
from personarank_dagster.configuration.strict_yaml import load_yaml
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.downloads import read_downloaded_items, read_downloaded_reviews
from tests.workspace import ROOT

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(program: str) -> Iterator[tuple[str, str]]:
    """Document and command, from blocks of commands and from code between single ticks."""
    for path in DOCUMENTS:
        text = path.read_text()
        lines = [
            line.split("  #")[0].split(" # ")[0].strip() for block in blocks(text) for line in block.splitlines()
        ]
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
        yield from ((path.name, line) for line in lines + inline if line.startswith(f"{program} "))


@pytest.mark.parametrize(("document", "line"), sorted(set(commands("personarank"))))
def test_every_command_parses(document: str, line: str) -> None:
    name, *arguments = shlex.split(line.replace("…", "bucket"))[1:]
    assert name in main.commands, f"{document}: {line}"
    command = main.commands[name]
    if "[" in line:
        options = {option for one in command.params for option in one.opts}
        assert set(re.findall(r"--[\w-]+", line)) <= options
        return
    required = [one for one in command.params if one.required]
    if arguments or not required:
        context = click.Context(command, info_name=name, resilient_parsing=len(arguments) < len(required))
        command.parse_args(context, arguments)


@pytest.mark.parametrize(("document", "line"), sorted(set(commands("make"))))
def test_every_make_target_is_there(document: str, line: str) -> None:
    assert line.split()[1] in TARGETS, f"{document}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_settings_in_the_documents_are_accepted(tmp_path: Path) -> None:
    schedule, *resources = blocks((ROOT / "docs/operations.md").read_text(), "yaml")
    (tmp_path / "schedule.yaml").write_text(schedule)
    assert load_yaml(tmp_path / "schedule.yaml", ScheduleConfig).enabled
    configs = {name: each for one in resources for name, each in yaml.safe_load(one)["resources"].items()}
    from personarank_dagster.defs.platform.compute import ComputeResource
    from personarank_dagster.defs.platform.resources import GpuResource

    assert GpuResource(**configs["gpu"]["config"]).device == "cuda"
    assert ComputeResource(**configs["compute"]["config"]).engine == "ray"


def test_the_lines_of_raw_files_in_the_documents_are_read(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "raw-files.md").read_text()
    shown = re.findall(r"^## `(\w+)`\n.*?^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    paths = {key: tmp_path / f"{key}.jsonl" for key, _ in shown}
    for key, lines in shown:
        assert lines.count("\n") == 3
        paths[key].write_text(lines)
    assert paths.keys() == set(RAW_FILE_KEYS)
    truth = ingestion.read_ground_truth(paths["gt"]).frame
    summaries = ingestion.read_item_summaries(paths["item_summary"]).frame
    aspects = ingestion.read_aspects(paths["aspects"], "amazon").frame
    personas = ingestion.read_personas(paths["persona"], item_summaries=summaries).frame
    histories = ingestion.read_histories(
        paths["loo_history"], "amazon", ground_truth=truth, item_summaries=summaries, aspects=aspects
    ).frame
    selections = ingestion.read_selections(paths["selected"], personas, ground_truth=truth).frame
    lists = ingestion.read_candidates(paths["candidates"]).frame
    reviews = ingestion.read_reviews(paths["reviews"], ground_truth=truth).frame
    heights = [one.height for one in (personas, histories, selections, lists, reviews, truth)]
    assert heights == [6, 4, 3, 5, 3, 3]
    assert selections["resolved"].all()
    assert histories["item_summary"].null_count() == 0
    assert read_downloaded_reviews(paths["raw_reviews"]).frame["text"].null_count() == 1
    assert read_downloaded_items(paths["raw_items"]).frame["description"].null_count() == 0


def test_the_settings_of_a_preparation_are_all_accepted(tmp_path: Path) -> None:
    data, prepare, retriever, small = blocks((ROOT / "docs/preparation.md").read_text(), "yaml")
    (tmp_path / "prepare.yaml").write_text(prepare)
    (tmp_path / "retriever.yaml").write_text(retriever)
    assert load_yaml(tmp_path / "retriever.yaml", RetrieverConfig) == RetrieverConfig()
    assert load_yaml(tmp_path / "prepare.yaml", PrepareConfig).budget_usd == 2.0
    (tmp_path / "prepare.yaml").write_text(small)
    assert load_yaml(tmp_path / "prepare.yaml", PrepareConfig).request == {"repeat_penalty": 1.1}
    assert load_yaml(tmp_path / "prepare.yaml", PrepareConfig).model == "smollm2-135m"
    assert {"raw_reviews", "raw_items"} <= yaml.safe_load(data).keys()


def test_the_conversion_in_the_documents_makes_a_folder_that_loads(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from personarank_dagster.encoding.encoder import load_model
    from tests.tiny_models import write_tiny_model

    folder = Path(write_tiny_model(tmp_path))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (code,) = blocks((ROOT / "docs/training.md").read_text(), "python")
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    assert load_model(str(folder), max_len=32, device="cpu")


def test_the_architecture_names_files_and_what_is_in_them() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    files = set(re.findall(r"`([\w/]+\.py)`", text))
    contents = {path: (ROOT / "personarank_dagster" / path).read_text() for path in files}
    settings = {field.name for one in (TrainConfig, RerankConfig) for field in msgspec.structs.fields(one)}
    names = set(re.findall(r"`(?:\w+\.)?(\w+)`", text)) - settings
    code = "\n".join(contents.values())
    assert len(files) > 20
    assert [name for name in names if not re.search(rf"(def|class) {name}\b", code)] == []
