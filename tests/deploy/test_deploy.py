"""The files of deploy/, as far as they can be checked without an engine: they parse, and what they name is there."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
from kubernetes.client import V1PodSpec

from personarank_dagster.command_line.cli import main
from personarank_dagster.defs.platform.declarations import pod_of_run
from tests.workspace import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
RAY_JOB = yaml.safe_load((DEPLOY / "ray.yaml").read_text())["spec"]
RAY = RAY_JOB["rayClusterSpec"]
VALUES = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())


def test_the_services_name_each_other_and_volumes_that_are_declared() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        named = [one.split(":")[0] for one in service.get("volumes", [])]
        assert {name for name in named if not name.startswith(".")} <= COMPOSE["volumes"].keys()
        assert all((DEPLOY / name).exists() for name in named if name.startswith("."))
        assert set(service.get("depends_on", {})) <= services.keys()
    assert services["ui"]["network_mode"] == "service:proxy"
    assert (DEPLOY / services["ui"]["build"]["context"] / services["ui"]["build"]["dockerfile"]).is_file()


def test_the_compose_file_follows_the_compose_specification() -> None:
    arguments = ["--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    checked = CliRunner().invoke(check_jsonschema, arguments)
    assert checked.exit_code == 0, checked.output


def test_only_the_proxy_with_its_login_is_reached_from_outside() -> None:
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == ["proxy"]
    assert "basic_auth" in (DEPLOY / "Caddyfile").read_text()
    assert VALUES["dagsterWebserver"]["service"]["type"] == "ClusterIP"


def test_the_commands_and_variables_of_the_files_exist() -> None:
    command = COMPOSE["services"]["ui"]["command"]
    assert command[:3] == ["personarank", "ui", "--public-url"]
    assert CliRunner().invoke(main, [*command[1:2], "--help"]).output.count("--public-url") == 1
    variables = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text()))
    assert variables <= COMPOSE["services"]["ui"]["environment"].keys()
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    assert import_module(deployment["dagsterApiGrpcArgs"][1]).defs


def test_a_gpu_is_asked_for() -> None:
    (device,) = COMPOSE["services"]["ui"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_the_pod_of_a_run_has_the_limits_of_the_values_and_those_of_its_job() -> None:
    """Kubernetes' own models refuse keys that they do not know."""
    values = VALUES["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    launcher = {"container_config": values["containerConfig"], "pod_spec_config": values["podSpecConfig"]}
    on_kubernetes = pod_of_run({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    tags = {name: json.dumps(value) for name, value in on_kubernetes.items()}
    merged = K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(launcher)).merge(
        K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags))
    )
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image="personarank"), ["run"], "run", user_defined_k8s_config=merged.run_k8s_config
    )
    pod = job.spec.template.spec
    assert pod.containers[0].resources.limits == {"memory": "32Gi", "nvidia.com/gpu": "1"}
    assert [one.key for one in pod.tolerations] == ["nvidia.com/gpu"]


def test_the_ray_job_follows_the_schema_of_kuberay() -> None:
    schema = Path(__file__).with_name("rayjob.schema.json")
    checked = CliRunner().invoke(check_jsonschema, ["--schemafile", str(schema), str(DEPLOY / "ray.yaml")])
    assert checked.exit_code == 0, checked.output


def test_the_pods_of_the_ray_job_are_pods_with_the_settings_of_their_nodes() -> None:
    head, workers = RAY["headGroupSpec"], RAY["workerGroupSpecs"]
    for pod in (group["template"]["spec"] for group in (head, *workers)):
        (container,) = k8s_model_from_dict(V1PodSpec, k8s_snake_case_dict(V1PodSpec, pod)).containers
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount.name for mount in container.volume_mounts} == volumes
        assert container.image.startswith(VALUES["dagster-user-deployments"]["deployments"][0]["image"]["repository"])
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert workers[0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_ray_job_names_a_command_variables_and_the_release_that_are_there() -> None:
    assert RAY_JOB["entrypoint"].split()[0] == "personarank"
    assert CliRunner().invoke(main, [*RAY_JOB["entrypoint"].split()[1:], "--help"]).exit_code == 0
    given = {one["name"] for one in RAY["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]}
    package = "\n".join(path.read_text() for path in (ROOT / "personarank_dagster").rglob("*.py"))
    assert all(f'"{name}"' in package for name in given)
    assert f"ray=={RAY['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()


def test_the_image_copies_what_is_there_and_installs_extras_that_exist() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    for line in (line for line in lines if line.startswith("COPY")):
        sources = [word for word in shlex.split(line)[1:-1] if not word.startswith("--")]
        assert all((ROOT / source).exists() for source in sources), line
    (extras,) = re.findall(r"\.\[([\w,]+)\]", "\n".join(lines))
    declared = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras.split(","))


def test_the_image_copies_what_the_package_links_to_before_it_is_installed() -> None:
    before = (DEPLOY / "Dockerfile").read_text().split("RUN pip install")[0]
    copied = [ROOT / word for line in before.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]]
    links = [path.resolve() for path in (ROOT / "personarank_dagster").rglob("*") if path.is_symlink()]
    assert links
    assert all(any(link.is_relative_to(place) for place in copied) for link in links)
