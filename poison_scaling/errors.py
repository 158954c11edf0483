"""What went wrong, for people: one sentence with the field, its value and what would be right."""


class InputError(Exception):
    """A study, a file or an argument cannot be used as it is. The command line exits with 2."""


class Damaged(InputError):
    """A file that this project wrote is not as it was written."""


class Interrupted(Exception):
    """Work was stopped from outside and can be resumed. The command line exits with 75."""


class Difference(Exception):
    """Something is not as the study says: the first such thing. The command line exits with 1."""
