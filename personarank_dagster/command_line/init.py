"""`personarank init` and `personarank demo`: a project around the component, in a folder of its own."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from string import Template

import click
from dagster.components.component_scaffolding import scaffold_object

from personarank_dagster.component.projects import as_module
from personarank_dagster.component.scaffolding import TEMPLATES, DatasetParams, Written, check_name, write_dataset

TYPE = "personarank_dagster.PersonaRankComponent"

PYPROJECT = Template("""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["personarank-dagster[demo,dg]"]

[tool.setuptools.packages.find]
include = ["$module*"]

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "$module"
code_location_name = "$module"
""")

WORKSPACE = Template("""\
# For `dagster dev` and servers; `dg` reads pyproject.toml.
load_from:
  - python_module:
      module_name: $module.definitions
      working_directory: .
      location_name: $module
""")

DEFINITIONS = '''\
"""All that Dagster sees of this project: what lies in defs/."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """The components and Python files in defs/; a run is one process, which suits graphs of small steps."""
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
'''

IGNORED = """\
.venv/
.dagster/
.logs_queue/
.nux/
.telemetry/
outputs/
__pycache__/
*.egg-info/
"""

README = Template("""\
# $name

Candidate lists, reranked by personas: https://arxiv.org/abs/2602.21756. `$module/defs/personarank/defs.yaml` mounts
the graph, `configs/$dataset` says of what it is made; the files in `data/$dataset` are generated, for a start.

```
$commands
```

Your own data: put the paths of your files into `configs/$dataset/data.yaml`, then `personarank validate`.
""")


RUN_FROM_REVIEWS = ["personarank llm-stand-in --port 8391 &  # your server instead: configs/$dataset/prepare.yaml"]
RUN = [
    "personarank run           # raw files to metrics",
    "dg check defs",
    "dg dev                    # the Dagster UI",
]


def init_and_report(folder: Path, params: DatasetParams) -> None:
    """Write a project; say what was written, what was there, and what to type next."""
    written = write_project(folder, params)
    for path in written.kept:
        click.echo(f"kept   {path.relative_to(written.root)}, which was there")
    click.echo(f"wrote  {len(written.new)} files into {folder}; next:")
    for command in (f"cd {folder}", *_next_commands(params)):
        click.echo(f"  {command}")


def write_project(folder: Path, params: DatasetParams) -> Written:
    """Write a project with one component and one dataset; nothing that is there is written over.

    Raises UsageError for a name that no dataset can have.
    """
    check_name(params.dataset)
    written, name = Written(folder.absolute()), folder.absolute().name
    module = as_module(name)
    commands = "\n".join(_next_commands(params))
    words = {"name": name, "module": module, "dataset": params.dataset, "commands": commands}
    written.text("pyproject.toml", PYPROJECT.substitute(words))
    written.text("workspace.yaml", WORKSPACE.substitute(words))
    written.text("dagster.yaml", (TEMPLATES / "dagster.yaml").read_text())
    written.text(".gitignore", IGNORED)
    written.text("README.md", README.substitute(words))
    written.text(f"{module}/__init__.py", f'"""{name}."""\n')
    written.text(f"{module}/definitions.py", DEFINITIONS)
    written.text(f"{module}/defs/__init__.py", '"""Components and definitions of this project."""\n')
    write_dataset(written, params)
    _scaffold(written, written.root / module / "defs" / "personarank", params)
    return written


def _next_commands(params: DatasetParams) -> list[str]:
    first = RUN_FROM_REVIEWS if params.from_reviews else []
    return [Template(command).substitute(dataset=params.dataset) for command in (*first, *RUN)]


def _scaffold(written: Written, folder: Path, params: DatasetParams) -> None:
    """Have Dagster scaffold the component, as `dg scaffold defs` does; the dataset is there already."""
    if folder.exists():
        written.kept.append(folder)
        return
    with redirect_stdout(StringIO()):
        scaffold_object(
            path=folder,
            typename=TYPE,
            json_params=params.model_dump_json(),
            scaffold_format="yaml",
            project_root=written.root,
        )
    written.new.append(folder / "defs.yaml")


def write_demo(folder: Path) -> None:
    """A project with both sample datasets, or what there is of it."""
    for kind in ("amazon", "yelp"):
        write_project(folder, DatasetParams(dataset=kind, kind=kind))
