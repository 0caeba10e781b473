"""The one exception that means "the input is wrong", which the command line turns into exit code 2."""


class InputError(ValueError):
    """Bad input from outside: a file, a field, a gin binding or a flag.

    Prints as one line, `where: found X; expected Y`, with no traceback (the command line adds none).

    Args:
        where: the file, field or binding, as the user would name it (`corpus.jsonl line 3`, `Run.seq_len`).
        found: what was there.
        expected: what would have been right; say how to get it where that helps.
    """

    def __init__(self, where: object, found: str, expected: str):
        self.where, self.found, self.expected = str(where), found, expected
        super().__init__(f"{where}: found {found}; expected {expected}")
