"""What the terminal shows of versions: lists of them, what was gone back to, removed, verified, put right."""

from dataclasses import asdict

from rich.markup import escape

from personarank_dagster.command_line.terminal import console, errors, new_table, show_table, show_warning
from personarank_dagster.core.errors import UsageError, near
from personarank_dagster.core.quantities import megabytes
from personarank_dagster.definitions import project
from personarank_dagster.defs.automation import upkeep
from personarank_dagster.defs.automation.instances import open_instance
from personarank_dagster.defs.platform.lineage.provenance import stale_reason
from personarank_dagster.defs.platform.lineage.snapshots import take_snapshot
from personarank_dagster.storage.versions import VersionStore


def show_versions(asset: str | None, partitions: tuple[str, ...], *, as_json: bool) -> None:
    """Print versions, oldest first."""
    _show_problems(partitions)
    found = upkeep.list_versions(upkeep.stores(project, asset, partitions))
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return
    table = new_table("asset", "partition", "version", "when (UTC)", "run", ">rows", ">size", "")
    for one in found:
        rows = "" if one.rows is None else f"{one.rows:,}"
        size = "" if one.bytes is None else megabytes(one.bytes)
        wrong = one.problem or (one.refused and f"refused: {one.refused}")
        state = f"[red]{escape(wrong)}[/]" if wrong else "[green]current[/]" if one.current else ""
        table.add_row(one.asset, one.partition, one.version, one.created[:-3], one.run, rows, size, state)
    if not found:
        console.print(f"nothing is published{f' of {asset}' if asset else ''} yet; `personarank run` makes versions")
        return
    show_table(table, spare=("when (UTC)", "size", "rows", "run"))


def _show_problems(partitions: tuple[str, ...] = ()) -> None:
    """Which datasets are passed over among all, and why; one that is asked for by its name is an error."""
    if not partitions or "all" in partitions:
        for problem in project.problems():
            show_warning(f"passed over: {problem}")


def check_version(store: VersionStore, version: str) -> None:
    """Raise UsageError for a version that is not there."""
    names = store.names()
    if version not in names:
        there = f"the versions are {', '.join(names)}" if names else "nothing is published yet"
        raise UsageError(f"{store.name}: unknown version {version}; {near(version, names)}{there}")


def roll_back_and_report(asset: str, partition: str, version: str | None, *, force: bool, as_json: bool) -> None:
    """Roll back and say to what."""
    found = list(upkeep.stores(project, asset, (partition,)))
    if len(found) != 1:
        raise UsageError(f"{asset} has no one partition {partition}; `personarank versions` lists them")
    store = found[0]
    if version:
        check_version(store, version)
    with open_instance() as instance:
        chosen = upkeep.roll_back(project, store, version, instance, force=force)
    if as_json:
        console.print_json(data={"asset": asset, "partition": partition, "version": chosen.name})
        return
    console.print(f"{store.name}: version {chosen.name} of {chosen.manifest.created:%Y-%m-%d %H:%M} is current")
    if not chosen.manifest.accepted:
        refusal = chosen.manifest.refusal or "it was published by an earlier release, which did not judge versions"
        errors.print(f"[yellow]its checks did not accept it: {escape(refusal)}[/]")
    reason = stale_reason(project, take_snapshot(project, partition), asset)
    if reason:
        console.print(f"[yellow]the next run will make it anew: {reason}[/]")


def retire_and_report(*, keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Retire old versions and say which."""
    _show_problems()
    found = upkeep.retire(project, keep=keep, dry_run=dry_run)
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return
    for one in found:
        done = "in use, kept" if one.in_use else "would be removed if nothing uses it" if dry_run else "removed"
        console.print(f"{one.asset} ({one.partition}) {one.version}: {done}, {megabytes(one.bytes)}")
    freed = sum(one.bytes for one in found if not one.in_use)
    told = f"{megabytes(freed)} {'would be ' if dry_run else ''}freed"
    console.print(told if found else "nothing to remove: no version is older than those that are kept")


def verify_and_report(asset: str | None, partitions: tuple[str, ...], *, as_json: bool) -> bool:
    """Verify versions; False if one is damaged."""
    _show_problems(partitions)
    found = upkeep.verify(upkeep.stores(project, asset, partitions))
    damaged = [one for one in found if one.damage]
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return not damaged
    for one in damaged:
        for problem in one.damage:
            console.print(f"[red]{one.asset} ({one.partition}) {one.version}:[/] {escape(problem)}")
    size = sum(one.bytes for one in found)
    console.print(f"versions hashed: {len(found)}, {megabytes(size)}; damaged: {len(damaged) or 'none'}")
    if damaged:
        console.print("`personarank rollback` goes back to a whole version; `personarank run --force` makes it anew")
    return not damaged


def treat_and_report(*, as_json: bool) -> bool:
    """Put things right and say what; False if something is left for a person."""
    with open_instance() as instance:
        found = upkeep.treat(project, instance)
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
    else:
        for one in found:
            console.print(f"{escape(one.what)} [{'red' if one.open else 'green'}]-> {escape(one.done)}[/]")
        left = sum(one.open for one in found)
        console.print(f"put right: {len(found) - left}, left for you: {left}" if found else "nothing to put right")
    return not any(one.open for one in found)
