"""A chat's text is its messages in a frame, character by character."""

from hypothesis import given
from hypothesis import strategies as st

from answered import scored, wrote
from projects import property_test
from shardmark.records.request import Message
from shardmark.records.sample import Sample
from shardmark.tasks.frames import as_sent, frame_of, framed, pieces_sent
from shardmark.tasks.requests import as_text

TEXT = st.text(st.sampled_from("aA <>\n\u2003\ud800🌧"), max_size=6)
MESSAGES = st.lists(st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=TEXT), max_size=4)
FRAME = ("<s>", (0, ""), "</s><s>", (1, ""), "</s>")


def said(*contents: str) -> list[Message]:
    return [Message(role="user", content=content) for content in contents]


@property_test
@given(messages=MESSAGES, around=st.lists(TEXT, min_size=5, max_size=5), trims=st.booleans(), drops=st.booleans())
def test_whatever_a_template_writes_comes_back(
    messages: list[Message], around: list[str], trims: bool, drops: bool
) -> None:
    parts = [message.content.strip() if trims else message.content for message in messages]
    text = "".join(a + b for a, b in zip(around, [*parts[drops:], ""], strict=False))
    frame = frame_of(messages, text)
    prediction = wrote("a", sent=(frame,))
    assert framed(frame, messages) == as_sent(messages, prediction) == text
    sample = {"sample": "a", "request": "a", "output": "", "answer": "", "target": "", "scores": {}, "row": None}
    pieces = pieces_sent(messages, prediction)
    assert Sample(**sample, truncated=0, prompt=as_text(messages), sent=pieces).as_sent == text


def test_chats_share_a_frame_whatever_they_say() -> None:
    for content in ("One", "another", " "):
        assert frame_of(said(content, "Two"), f"<s>{content}</s><s>Two</s>") == FRAME
    for content in (" One", "One\n", "\n One \n"):
        trimmed = frame_of(said(content, "Two"), f"<s>{content.strip()}</s><s>Two</s>")
        assert trimmed == ("<s>", (0, "strip"), *FRAME[2:])


def test_choices_have_a_frame_each_if_they_differ() -> None:
    frames = (("<", (0, ""), ">"), ("[", (0, ""), "]"))
    asked = said("One")
    several = scored("a", -1.0, -2.0, sent=frames)
    assert [as_sent(asked, several, number) for number in (0, 1)] == ["<One>", "[One]"]
    assert as_sent(asked, scored("a", -1.0, -2.0, sent=frames[:1]), 1) == "<One>"
    assert as_sent(asked, scored("a", -1.0)) is None, "an answer of an earlier version"
    assert pieces_sent("a text", several) is None


def test_a_frame_that_does_not_fit_its_chat_is_none() -> None:
    for slot in ((1, ""), (-1, ""), (0, "other")):
        assert as_sent(said("One"), wrote("a", sent=(("<s>", slot),))) is None
        assert pieces_sent(said("One"), wrote("a", sent=(("<s>", slot),))) is None
