"""The encoder of a dataset: its asset, its checks, its curves, its processes on several devices."""
