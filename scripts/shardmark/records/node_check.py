"""What a node of a cluster must have for a run's jobs, and what a job that checked a node has found.

results/plans/nodes/*.json
"""

from shardmark.records.base import Record


class NodeNeeds(Record, frozen=True, kw_only=True):
    """What jobs need of a node."""

    folders: list[str]
    "Folders that it must see."
    files: dict[str, int]
    "Files that it must see, each with its size in bytes."
    packages: dict[str, str]
    "Python packages, each with its version on the machine that plans."
    gpus: bool
    sandbox: bool

    def covers(self, other: "NodeNeeds") -> bool:
        """Whether a node that has these has the others, too."""
        return (
            set(other.folders) <= set(self.folders)
            and other.files.items() <= self.files.items()
            and other.packages.items() <= self.packages.items()
            and self.gpus >= other.gpus
            and self.sandbox >= other.sandbox
        )


class NodeCheck(Record, frozen=True, kw_only=True):
    """A node that had everything."""

    needs: NodeNeeds
    node: str
    checked: float
    "Seconds since 1970."


class Lack(Record, frozen=True):
    """Something that a node lacks."""

    what: str
    fix: str


class NodeAnswer(Record, frozen=True):
    """What a node says of itself."""

    node: str
    lacks: list[Lack]
