"""config/benchmark.lock: the commits, files and rows that names resolved to."""
