"""What every run carries, however it was launched: tags to search for, and the process that it runs in."""

from contextlib import suppress

import dagster as dg

from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.defs.platform.lineage.snapshots import Snapshot, begun_with
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.storage.process_identity import this_process

# The UI shows no tag that begins so: both are for programs.
PROCESS_TAG, FINGERPRINT_TAG = ".dagster/process", ".dagster/fingerprint"

PARTITION_TAG = "dagster/partition"


def run_tags(snapshot: Snapshot) -> dict[str, str]:
    """Tags by which a run of a dataset is found: its name, and the fingerprint of all that the results come from."""
    return {"dataset": snapshot.partition, FINGERPRINT_TAG: snapshot.fingerprint()[:16]}


def tag_run(project: ProjectResource, run: dg.DagsterRun, instance: dg.DagsterInstance) -> None:
    """Tag a run that begins in this process, and resolve what it begins with.

    One from the UI or a schedule cannot have been tagged before.
    """
    tags = {PROCESS_TAG: this_process()}
    # A configuration that breaks a rule stops the step that reads it, with the reason.
    with suppress(PersonarankError):
        if dataset := run.tags.get(PARTITION_TAG):
            tags |= run_tags(begun_with(project, instance, run, dataset))
    instance.add_run_tags(run.run_id, tags)
