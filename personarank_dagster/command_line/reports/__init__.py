"""What a command shows of runs, versions, places and the graph."""
