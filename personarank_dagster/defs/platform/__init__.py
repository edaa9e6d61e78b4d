"""What every asset stands on: resources, the IO manager, formats, partitions, what a version was made from."""
