"""gunicorn's `casefold_http_method`: `get` is served as `GET`.

llhttp knows the methods only in upper case, so this happens before it. Rule: nobody
pays who has not asked; `HTTPProtocol.configured()` mixes the class in if somebody has.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .reading import Reading as Base
else:
    Base = object

# A method, or a piece of one. The target may begin a read, too, and no letter of it is
# to be raised: it begins with a slash, or a scheme, whose case does not matter.
METHOD = re.compile(rb"[\r\n]*[A-Za-z-]*(?: |\Z)")


class Casefolding(Base):
    """Raises the method of a request that begins a read.

    A request pipelined behind another one in the same read is left as it is, and so
    refused if its method is in lower case.
    """

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Raise the method, if that is where the reading is."""
        if self.at_method() and (method := METHOD.match(data)):
            data = method[0].upper() + data[method.end() :]
        super().data_received(data)
