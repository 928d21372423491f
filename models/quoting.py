"""What strangers' files and callers say, fit for one line of an error."""


def printable(text: object, most: int = 600) -> str:
    """What a stranger's file says, fit for one line of an error: control characters escaped, the rest cut off."""
    whole = str(text)
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in whole[:most])
    return line + (" …" if len(whole) > most else "")


def short(value: object, most: int = 60) -> str:
    """A value as Python writes it, control characters escaped, the rest cut off."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}…"
