"""config/datasets/*.yaml with the key `group`: several data sets that are reported as one."""

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from shardmark.config.dataset import Topic
from shardmark.settings import Settings


class GroupConfig(Settings):
    """A mean over data sets. The file's name is its name; a run that names it evaluates all of them."""

    include: str | list[str] = Field(default=[], exclude=True)
    "Names of other files here whose keys apply unless this file has them. Mappings merge, null removes a key."
    description: str = ""
    "One line for the report."
    topics: list[Topic] = Field(default=[], exclude=True)
    "The subjects of the group, for `list`."
    group: list[str] = Field(min_length=1)
    "Names of files in config/datasets, or globs such as `mmlu_*`; not of other groups."
    mean: Literal["macro", "micro", "weighted"] = "macro"
    "Each data set counts the same (macro), in proportion to its samples (micro), or by `weights` (weighted)."
    weights: dict[str, PositiveFloat] = Field(default={})
    "For mean weighted: a number for each data set."

    @model_validator(mode="after")
    def _weights_fit(self) -> "GroupConfig":
        if (self.mean == "weighted") != bool(self.weights):
            raise ValueError("mean weighted and weights belong together: give both or neither")
        return self
