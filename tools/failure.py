"""The one exception whose text is shown to the person at the terminal."""


class Failure(Exception):
    """A problem that the reader has to know or solve; its text says what to do."""
