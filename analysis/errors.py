"""The one exception that people see: bad input, said in one sentence."""


class InputError(ValueError):
    """What was given cannot be used; the message names the place, the value and what is right."""
