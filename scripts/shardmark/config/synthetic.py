"""`source.synthetic`: rows that are generated from a seed."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from shardmark.settings import Settings

Length = Annotated[int, Field(ge=50, le=2_000_000)]
RulerLength = Annotated[int, Field(ge=1000, le=100_000)]
RulerTask = Literal[
    "niah_single_1",
    "niah_single_3",
    "niah_multikey_1",
    "niah_multikey_2",
    "niah_multikey_3",
    "niah_multivalue",
    "niah_multiquery",
    "vt",
    "cwe",
    "fwe",
]
ELSEWHERE = {
    "niah_single_2": "lm_eval:niah_single_2",
    "qa_1": "lm_eval:ruler_qa_squad",
    "qa_2": "lm_eval:ruler_qa_hotpot",
}
"RULER's tasks of essays, of SQuAD and of HotpotQA, whose texts are not made from a seed; lm-eval's tasks fetch them."
Percent = Annotated[int, Field(ge=0, le=100)]
WORDS = 10
"The number of words of the sentence that hides a number."


class Needle(Settings):
    """Texts of repeated sentences with numbers hidden in them, one of which is asked for."""

    name: Literal["needle"]
    "The kind of rows: needles in haystacks."
    lengths: list[Length] = Field(min_length=1)
    "The lengths of the texts in words; a word has about 1.3 tokens."
    depths: list[Percent] = Field(default=[0, 25, 50, 75, 100], min_length=1)
    "The positions of the number that is asked for, in percent of the text."
    needles: Annotated[int, Field(ge=1, le=200)] = 1
    "How many numbers are hidden in a text."
    rows: PositiveInt = 10
    "How many texts of each length and depth."
    seed: NonNegativeInt = 0
    "Another number generates other rows."

    @model_validator(mode="after")
    def _fits(self) -> "Needle":
        if self.needles * WORDS > min(self.lengths):
            raise ValueError(f"{self.needles} needles of {WORDS} words do not fit into {min(self.lengths)} words")
        return self


class Ruler(Settings):
    """The texts and questions of a task of RULER."""

    name: Literal["ruler"]
    "The kind of rows: those of RULER's tasks."
    task: RulerTask
    "RULER's name for the task."
    lengths: list[RulerLength] = Field(min_length=1)
    "The lengths of the texts in words."
    rows: PositiveInt = 20
    "How many texts of each length."
    seed: NonNegativeInt = 0
    "Another number generates other rows."

    @field_validator("task", mode="before")
    @classmethod
    def _made_here(cls, task: object) -> object:
        if isinstance(task, str) and task in ELSEWHERE:
            raise ValueError(f"the texts of {task} are not made from a seed; name {ELSEWHERE[task]} in `datasets`")
        return task


AnySynthetic = Annotated[Needle | Ruler, Field(discriminator="name")]
