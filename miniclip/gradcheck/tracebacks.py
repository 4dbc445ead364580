"""The user's own exception, without the frames of the checker that lie above it."""

import traceback
from pathlib import Path

OURS = (str(Path(__file__).parent), "<frozen importlib")


def own_part(error):
    """The traceback of an exception from the first frame that is not the checker's; None where there is none."""
    part = error.__traceback__
    while part and part.tb_frame.f_code.co_filename.startswith(OURS):
        part = part.tb_next
    return part


def format_own(error):
    """The exception as Python prints it, from the user's first frame on."""
    return "".join(traceback.format_exception(type(error), error, own_part(error))).rstrip()
