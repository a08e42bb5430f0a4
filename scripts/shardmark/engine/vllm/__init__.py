"""vLLM, loaded and run in the worker's own process, with a Python that has it installed."""
