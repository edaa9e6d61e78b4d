"""Speed, always as a ratio to the plain way in the same run. `make bench` prints it; `results.md` keeps it."""
