"""What every asset stands on: resources, the IO manager, partitions, what a version was made from."""
