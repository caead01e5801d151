"""Why a picture cannot be used."""


class Refused(Exception):
    """The picture cannot be used. The message is a code of `app/pictures/refusals.py`."""
