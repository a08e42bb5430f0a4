"""The engine that answers requests, for backends that have several, and how far answers depend on batches."""

import msgspec

from shardmark.records.base import Record

TREE, VLLM = "tree", "vllm"
"The engine for transformers models, which shares prompts; and vLLM."


class PlannedEngine(Record, frozen=True):
    """An engine that a model is planned to use: the kinds of requests it answers, and the Python it runs with."""

    name: str
    kinds: list[str]
    python: str
    "The path of the interpreter; empty for the job's own."


class EngineUse(Record, frozen=True, omit_defaults=True):
    """An engine that has answered, and what was measured of it."""

    name: str
    repeated: int = 0
    "How many greedy requests were asked again, each in a batch of its own."
    differing: int = 0
    "How many of these then got other tokens."
    batch_invariant: bool = False
    "Whether it ran in a mode that promises the same answers in any batch."

    @property
    def text(self) -> str:
        """A description for the report: the engine, and how far its answers were seen to depend on the batch."""
        if self.name == TREE:
            return "tree engine"
        mode = " in its batch-invariant mode" if self.batch_invariant else ""
        if not self.repeated:
            return f"vLLM{mode}; whether answers depend on the batch was not measured"
        return f"vLLM{mode}; {self.differing} of {self.repeated} greedy answers asked again alone differed"


def joined(uses: list[EngineUse]) -> list[EngineUse]:
    """Each engine once, with the worst measurement of it."""
    found: dict[str, EngineUse] = {}
    for use in uses:
        known = found.setdefault(use.name, use)
        if (use.differing, use.repeated) > (known.differing, known.repeated):
            known = use
        invariant = use.batch_invariant and found[use.name].batch_invariant
        found[use.name] = msgspec.structs.replace(known, batch_invariant=invariant)
    return list(found.values())
