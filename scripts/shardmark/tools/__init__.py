"""What the commands beside a run do: list, prompts, plan, gc, verify. They may use every other part."""
