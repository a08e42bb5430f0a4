"""Requests beyond Shardmark's scope, reported by name if a file makes one: README.md has the list."""

from collections.abc import Iterator
from typing import Any

from shardmark.errors import Problem

IMAGES, SOUNDS = "prompts with images or videos", "prompts with audio"
AGENTS, TURNS = "models that call tools, or agents", "several turns with answers of the model in between"
NODES = "models that are spread over several nodes"
KEYS = {
    **dict.fromkeys(("image", "images", "image_column", "doc_to_image", "video", "videos", "doc_to_video"), IMAGES),
    **dict.fromkeys(("audio", "audios", "audio_column", "doc_to_audio"), SOUNDS),
    **dict.fromkeys(("tools", "tool_choice", "functions", "solver", "agent", "environment", "max_steps"), AGENTS),
    **dict.fromkeys(("turns", "max_turns", "multi_turn", "infer_mode"), TURNS),
    **dict.fromkeys(("num_nodes", "nodes", "num_machines"), NODES),
}
"Keys that files have elsewhere, and what they ask for."
CONTENT = {"image": IMAGES, "image_url": IMAGES, "video": IMAGES, "audio": SOUNDS, "input_audio": SOUNDS}
"Types of the parts of a message in OpenAI's protocol."
FIX = "use text-only prompts and answers; for anything else, use another tool"


def refused(problem: Problem) -> Problem | None:
    """The problem to report instead of an unknown key, if the key asks for something that Shardmark does not do."""
    asked = KEYS.get(problem.key.rpartition(".")[2])
    return Problem(problem.where, problem.key, f"{asked} are beyond what Shardmark evaluates", FIX) if asked else None


def refused_parts(values: Any) -> Iterator[Problem]:
    """A problem for each message of a data set whose content is not a text."""
    messages = values.get("messages") if isinstance(values, dict) else None
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and (asked := CONTENT.get(str(part.get("type")))):
                what = f"{asked} are beyond what Shardmark evaluates"
                yield Problem("", f"messages.{number}.content.{place}.type", what, FIX)
