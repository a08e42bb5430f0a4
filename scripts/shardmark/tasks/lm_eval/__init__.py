"""lm-evaluation-harness's tasks, from its YAML files as they are: files -> index -> settings -> documents -> requests."""
