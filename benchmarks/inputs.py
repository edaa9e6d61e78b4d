"""Inputs of a dataset: of `PERSONARANK_CONFIG_DIR`, or real ones where they are at hand, or the sample."""

import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from personarank_dagster.configuration.dataset import CONFIG_DIR_VARIABLE, DatasetConfig, load_dataset
from personarank_dagster.raw import ingestion

REAL = Path(__file__).parents[2] / "shared" / "real" / "configs"
SAMPLE = Path("configs")
CONFIGS = Path(os.environ.get(CONFIG_DIR_VARIABLE) or (REAL if REAL.is_dir() else SAMPLE))
KIND = "sample" if CONFIGS == SAMPLE else "real"


@dataclass(frozen=True)
class Inputs:
    config: DatasetConfig
    personas: pl.DataFrame
    histories: pl.DataFrame
    selections: pl.DataFrame


def read_inputs(dataset: str) -> Inputs:
    config = load_dataset(CONFIGS, dataset)
    summaries = ingestion.read_item_summaries(config.raw_path("item_summary")).table
    aspects = ingestion.read_aspects(config.raw_path("aspects"), schema=config.data.schema).table
    histories = ingestion.read_histories(
        config.raw_path("loo_history"), config.data.schema, item_summaries=summaries, aspects=aspects
    ).table
    personas = ingestion.read_personas(config.raw_path("persona"), item_summaries=summaries).table
    return Inputs(config, personas, histories, ingestion.read_selections(config.raw_path("selected"), personas).table)
