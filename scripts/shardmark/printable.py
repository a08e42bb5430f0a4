"""Text that a terminal shows and does not obey: the one place where foreign text is made so."""

import unicodedata


def printable(text: str) -> str:
    """The text with each character that is hidden, or that a terminal would obey, as Python writes it.

    Escape sequences and marks that turn the direction of writing would let a name or a description pretend to be
    something else. Newlines, tabs and the spaces of other scripts stay.
    """
    return text if text.isprintable() else "".join(map(_character, text))


def _character(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) in ("Co", "Zs"):
        return character
    return escaped(character)


def escaped(character: str) -> str:
    """A character as Python writes it in ASCII."""
    return character.encode("unicode_escape").decode("ascii")
