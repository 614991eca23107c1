"""Going on with an answer whose server died in the middle of it. Pure; docs/continuation.md says it in words.

`rules` says which requests and engines may be continued, `kept` holds what the client was given in bounded memory,
`so_far` reads it when a server has died, `request` asks another server for the rest, and `seam` joins the two streams.
"""

from ilaas.core.continuation.kept import Kept, Room, before_error
from ilaas.core.continuation.request import rest_of, used_up
from ilaas.core.continuation.rules import goes_on, may_continue
from ilaas.core.continuation.seam import ContinuedStream
from ilaas.core.continuation.so_far import SoFar, read

__all__ = [
    "ContinuedStream",
    "Kept",
    "Room",
    "SoFar",
    "before_error",
    "goes_on",
    "may_continue",
    "read",
    "rest_of",
    "used_up",
]
