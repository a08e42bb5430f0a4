"""The filter opencompass_first_option.

Its rules are OpenCompass's own (opencompass/utils/text_postprocessors.py, Apache-2.0).
"""

import re
from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from shardmark.filters.base import TextFilter

OPTION = "([{options}])"
CHINESE = (
    *(f"答案是?{colon}\\s*{OPTION}" for colon in ("", "\\s*：", "\\s*:")),
    *(f"{words}\\s*{OPTION}" for words in ("答案选项应?该?是", "答案选项应?该?为", "答案应该?是", "答案应该?选")),
    f"答案选项为?\\s*：\\s*{OPTION}",
    f"答案选项为?\\s+\\(?\\*?\\*?{OPTION}\\*?\\*?\\)?",
    f"答案选项是?\\s*:\\s*{OPTION}",
    *(f"{words}\\s*{OPTION}" for words in ("答案为", "答案选", "选择?")),
    f"故选?\\s*{OPTION}只有选?项?\\s?{OPTION}\\s?是?对",  # two rules that a missing comma has joined
    *(f"只有选?项?\\s?{OPTION}\\s?{end}" for end in ("是?错", "不?正确", "错误")),
    *(f"说法{words}选?项?的?是\\s?{OPTION}" for words in ("不?对", "不?正确", "错误")),
    *(f"{OPTION}\\s?{end}" for end in ("是正确的", "是正确答案")),
    f"选项\\s?{OPTION}\\s?正确",
    f"所以答\\s?{OPTION}",
    *(f"{words}\\s?([{{options}}][.。$]?$)" for words in ("所以", "所有")),
)
ENDS = (
    f"[\\s，：:,]{OPTION}[。，,\\.]?$",
    *(f"[\\s，,：:]{words}{OPTION}[。\\.]?$" for words in ("[故即]", "因此")),
    *(f"{words}\\s?{OPTION}[。\\.]?$" for words in ("[是为。]", "因此", "显然")),
    *(f"{words}\\s?(\\S+)(?:。|$)" for words in ("答案是", "答案应该是", "答案为")),
)
ENGLISH = (
    f"(?i)ANSWER\\s*:\\s*{OPTION}",
    f"[Tt]he answer is:?\\s+\\(?{OPTION}",
    f"[Tt]he answer is:?\\s+\\(?\\*?\\*?{OPTION}",
    *(
        f"[Tt]he {words}:?\\s+\\(?{OPTION}"
        for words in ("answer is option", "correct answer is", "correct answer is option")
    ),
    *(f"[Tt]he correct {words} is:?.*?boxed{{{{{OPTION}}}}}" for words in ("answer", "option", "answer option")),
    f"[Tt]he answer to the question is:?\\s+\\(?{OPTION}",
    f"^选项\\s?{OPTION}",
    f"^{OPTION}\\s?选?项",
    "(\\s|^)[{options}][\\s。，,：:\\.$]",
    "1.\\s?(.*?)$",
    f"1.\\s?{OPTION}[.。$]?$",
)
CUSHION = (f"{OPTION}:", OPTION)


@lru_cache
def _rules(options: str, cushion: bool) -> list[re.Pattern[str]]:
    rules = (*CHINESE, *ENDS, *ENGLISH, *(CUSHION if cushion else ()))
    return [re.compile(rule.format(options=options), re.DOTALL) for rule in rules]


class OpenCompassFirstOption(TextFilter):
    """OpenCompass's first_option_postprocess, for comparison with its numbers."""

    protocol: ClassVar[int] = 1
    name: Literal["opencompass_first_option"]
    options: str = Field(pattern="^[A-Za-z]+$")
    "The letters to look for, e.g. ABCD."
    cushion: bool = False
    "If no rule finds one, any of the letters in the text counts; OpenCompass's default, though few data sets use it."

    def finds(self, answer: str) -> bool:
        return answer in [*self.options]

    def find(self, text: str) -> str | None:
        """The result of OpenCompass 0.5.4's first_option_postprocess, by its rules in order; None for its empty text.

        With `cushion`, any letter of the text is better than none. Without it, a letter in brackets is missed, as in
        `(C)`.
        """
        text = text.strip()
        for rule in _rules(self.options, self.cushion):
            match = rule.search(text)
            found = [option for option in self.options if match and option in (match.group(1) or match.group(0))]
            if found:
                return found[0]
        return None
