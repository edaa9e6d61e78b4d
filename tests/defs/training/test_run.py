"""Training on several ranks, from the asset, on a tiny model."""

import re
import signal
import time
from pathlib import Path
from unittest.mock import MagicMock

import dagster as dg
import msgspec
import psutil
import pytest

from personarank_dagster.defs.platform.figures import picture
from personarank_dagster.defs.training.pictures import training_curves
from personarank_dagster.defs.training.run import first_error, observer, training_metadata
from tests.killable import NO_PICTURES, TinyWorkspace, edit, sight

TRAINED = ("run", "--partition", "amazon", "--select", "+trained_encoder")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    workspace = TinyWorkspace(tmp_path_factory.mktemp("ranks"))
    settings = {"tune: head": "tune: full", "num_gpus: 1": "num_gpus: 2", "negatives: catalogue": "negatives: batch"}
    edit(workspace.folder / "configs/amazon/train.yaml", settings)
    return workspace


def test_a_failing_rank_fails_the_asset_with_its_own_error(workspace: TinyWorkspace) -> None:
    train_yaml = workspace.folder / "configs/amazon/train.yaml"
    edit(train_yaml, {"max_len: 32": "max_len: 65"})
    ended = workspace.call(*TRAINED, constants=NO_PICTURES)
    edit(train_yaml, {"max_len: 65": "max_len: 32"})
    assert ended.code == 1
    assert re.search(r"rank [01] failed: EncoderError: max_len must be at most 64 for .*, got 65", ended.output)


def test_ranks_do_not_outlive_a_killed_parent_and_the_next_run_continues(workspace: TinyWorkspace) -> None:
    written = sight(workspace.folder, "outputs/amazon/staging/trained_encoder-*/checkpoint-*/whole")
    assert workspace.call(*TRAINED, moment=written, constants=NO_PICTURES).code == -signal.SIGKILL
    started = [one for one in psutil.process_iter(["cmdline"]) if str(workspace.folder) in str(one.info["cmdline"])]
    ranks = [one for one in started if "personarank_dagster.encoding.train" in one.info["cmdline"]]
    assert psutil.wait_procs(ranks, timeout=30)[1] == []
    ended = workspace.call(*TRAINED, constants=NO_PICTURES)
    assert ended.code == 0, ended.output
    encoder = workspace.folder / "outputs/amazon/train"
    record = msgspec.json.decode((encoder / "training.json").read_bytes())
    assert record["config"]["num_gpus"] == 2
    assert record["losses"]
    assert (encoder / "modules.json").is_file()


def test_a_training_is_observed_ever_more_seldom_with_its_newest_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    context = MagicMock(asset_key=dg.AssetKey("trained_encoder"), partition_key="amazon")
    seconds = iter(range(0, 1000))
    monkeypatch.setattr("personarank_dagster.defs.training.run.time.monotonic", lambda: float(next(seconds)))
    on_step = observer(context, lambda count: None)
    on_step(0, 500, {"mrr": 0.5})
    for step in range(500):
        on_step(step, 500, {"loss": 1.0})
    observed = [call.args[0].metadata for call in context.log_event.call_args_list]
    assert [one["step"].value for one in observed] == [58, 118, 238, 478]
    assert all(one["mrr"].value == 0.5 for one in observed)


def test_the_first_rank_that_failed_is_named(tmp_path: Path) -> None:
    assert first_error(tmp_path) is None
    for rank, message in ((1, "ValueError: broken"), (0, "ConnectionError: peer is gone")):
        (tmp_path / f"error-{rank}.txt").write_text(message)
        time.sleep(0.01)
    assert first_error(tmp_path) == "trained_encoder: rank 1 failed: ValueError: broken"


def test_a_training_has_numbers_before_and_after_and_a_picture() -> None:
    base, final = (
        {
            "step": step,
            "best_by": 0.1,
            "accuracy@1": 0.2,
            "ndcg@10_sampled": 0.1,
            "ndcg@10_hard": 0.1,
            "ndcg@10_blend": 0.1,
        }
        for step in (0, 2)
    )
    record = {
        "losses": [2.0, 1.0],
        "refit_losses": [2.0, 1.5],
        "base": base,
        "final": final,
        "best_step": 2,
        "evaluations": [base, final],
    }
    numbers = training_metadata(record, {"texts_per_second": 3.0})
    assert (numbers["first_loss"], numbers["last_loss"], numbers["texts_per_second"]) == (2.0, 1.0, 3.0)
    assert numbers["base accuracy@1"] == numbers["final accuracy@1"] == 0.2
    both = [f"{side} {name}" for name in ("ndcg@10_blend", "accuracy@1") for side in ("base", "final")]
    assert list(numbers)[:5] == [*both, "best_step"]
    shown = str(picture(training_curves(record)).value)
    assert shown.startswith("![loss; held-out users; counts: step 2](data:image/png;base64,")
