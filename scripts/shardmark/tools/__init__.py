"""The library functions of the commands beside a run: list, prompts, plan, gc, verify. They may use all other parts."""
