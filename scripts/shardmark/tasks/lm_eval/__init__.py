"""lm-evaluation-harness's tasks, from its YAML files: files -> index -> settings -> documents -> requests."""
