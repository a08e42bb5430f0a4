"""What a chat template writes around messages, kept apart from what the messages say.

The text of a chat is the model's template and the request's messages, which are kept anyway. So predictions keep only
the rest: a frame, which most chats of a data set share. Put together again, it is the text that was sent, character by
character: whatever a template has made of a message that is none of `FORMS`, such as an answer without its thoughts, is
part of the frame.
"""

from collections.abc import Callable, Sequence

from shardmark.records.prediction import Frame, Prediction
from shardmark.records.request import Context, Message
from shardmark.records.sample import Piece

FORMS: dict[str, Callable[[str], str]] = {"": str, "strip": str.strip}
"The forms in which templates write the text of a message, by their names in predictions."


def frame_of(messages: Sequence[Message], text: str) -> Frame:
    """The frame of a chat with this text: what is left of it without the messages' texts, as they follow each other.

    A message found too early, in the template's own text, makes a frame that fewer chats share, but no other text.
    """
    pieces: list[str | tuple[int, str]] = []
    end = 0
    for number, message in enumerate(messages):
        for name, form in FORMS.items():
            said = form(message.content)
            begin = text.find(said, end) if said else -1
            if begin >= 0:
                pieces += [text[end:begin], (number, name)]
                end = begin + len(said)
                break
    return (*pieces, text[end:])


def framed(frame: Frame, messages: Sequence[Message]) -> str:
    """The text of a chat."""
    return "".join(piece if isinstance(piece, str) else FORMS[piece[1]](messages[piece[0]].content) for piece in frame)


def as_sent(context: Context, prediction: Prediction, choice: int = 0) -> str | None:
    """The text that a model was sent for a chat before it answered, or before a choice; None if it is unknown."""
    if isinstance(context, str) or not (frame := _frame(context, prediction, choice)):
        return None
    return framed(frame, context)


def pieces_sent(context: Context, prediction: Prediction, choice: int = 0) -> list[Piece] | None:
    """The same, with the places of the messages' texts in what `as_text` makes of the chat."""
    if isinstance(context, str) or not (frame := _frame(context, prediction, choice)):
        return None
    begins, end = [], -1
    for message in context:
        begins.append(end + len(f"\n[{message.role}]\n"))
        end = begins[-1] + len(message.content)
    return [piece if isinstance(piece, str) else _place(piece, context, begins) for piece in frame]


def _frame(messages: Sequence[Message], prediction: Prediction, choice: int) -> Frame:
    """The frame for a choice; empty if there is none, or if it does not fit, as one from a shared store might not."""
    frame = prediction.sent[min(choice, len(prediction.sent) - 1)] if prediction.sent else ()
    if isinstance(frame, int):  # the number of a frame that a file does not have
        return ()
    slots = (piece for piece in frame if not isinstance(piece, str))
    return frame if all(number in range(len(messages)) and form in FORMS for number, form in slots) else ()


def _place(slot: tuple[int, str], messages: Sequence[Message], begins: Sequence[int]) -> tuple[int, int]:
    number, form = slot
    content = messages[number].content
    said = FORMS[form](content)
    begin = begins[number] + content.index(said)
    return begin, begin + len(said)
