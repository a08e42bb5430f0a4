"""config/benchmark.lock: what names resolved to."""
