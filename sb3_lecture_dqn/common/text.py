"""Text for terminals."""


def shown(text: object, limit: int = 100) -> str:
    """
    Make text from a file safe to print: it may be long, and a terminal obeys some characters.

    :param text: The text
    :param limit: Most characters of the text that are shown; the middle of a longer text is left out
    :return: The text, with escape sequences in place of characters that cannot be printed
    """
    text = str(text)
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... {text[-(limit // 2) :]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
