"""Shardmark as a module of another Snakefile: `module shardmark: snakefile: ...`, then `use rule * from shardmark`.

Snakemake calls the handlers onstart, onsuccess and onerror of its main Snakefile only. But Shardmark's handlers find
missing requirements before the first job, and refuse a successful end while a target is missing: they are always
called, before those of the main Snakefile, wherever it defines them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from snakemake.exceptions import WorkflowError

if TYPE_CHECKING:
    from snakemake.workflow import Workflow

HANDLERS = ("onstart", "onsuccess", "onerror")
Handler = Callable[[Any], object]


def take_part(workflow: "Workflow") -> None:
    """Let Snakemake call the handlers of this module. Raises WorkflowError for a module that cannot be used."""
    if str(workflow.modifier.modify_path("results")) != "results":
        raise WorkflowError(
            "module shardmark: prefix and replace_prefix would move its files away from where its plan expects them; "
            "set `results` in its configuration instead"
        )
    missing = [name for name in HANDLERS if not callable(getattr(workflow, f"_{name}", None))]
    if missing:
        raise WorkflowError(
            f"module shardmark: this version of Snakemake has no Workflow._{missing[0]}, through which a run is "
            f"checked; call `snakemake -s {workflow.modifier.base_snakefile}` instead"
        )
    for name in HANDLERS:
        _join(workflow, name, workflow.globals[name])


def _join(workflow: "Workflow", name: str, ours: Callable[[], object]) -> None:
    """Call `ours` before the main Snakefile's handler: the present one, or any defined later."""
    register = getattr(workflow, name)

    def both(theirs: Handler) -> Handler:
        def handler(log: Any) -> None:
            ours()
            theirs(log)

        return handler

    def registered(theirs: Handler) -> None:
        register(theirs)
        if workflow.modifier.is_main_snakefile():
            setattr(workflow, f"_{name}", both(theirs))

    setattr(workflow, f"_{name}", both(getattr(workflow, f"_{name}")))
    setattr(workflow, name, registered)
