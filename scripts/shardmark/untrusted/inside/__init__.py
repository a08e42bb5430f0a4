"""Programs that run inside the sandbox with only the standard library: nothing else is there."""
