"""The Dagster UI on this machine, for this machine: its processes, and the guard in front of them."""
