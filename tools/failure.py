"""The one exception whose text is shown to the person at the terminal."""


class Failure(Exception):
    """A problem that the person at the terminal must know about or solve. Its text says what to do."""
