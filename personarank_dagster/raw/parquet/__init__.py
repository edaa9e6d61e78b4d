"""Parquet files under the rules of lines: what they unpack to, which types their columns may have."""
