"""gunicorn's `casefold_http_method`: `get` is served as `GET`.

llhttp knows methods only in upper case, so the method is changed before llhttp sees it.
Rule: this costs nothing unless the setting is on: only then does
`HTTPProtocol.configured()` mix the class in.
"""

from __future__ import annotations

import re

from .reading import Reading

# A method, or a piece of one. A read may also begin with the target, which must stay as
# it is: it begins with a slash, or with a scheme, whose case does not matter.
METHOD = re.compile(rb"[\r\n]*[A-Za-z-]*(?: |\Z)")


class Casefolding(Reading):
    """Writes the method of a request that begins a read in upper case.

    A request pipelined behind another one in the same read is not changed, and is
    refused if its method is in lower case.
    """

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Change the method, if *data* begins with one or with a piece of one."""
        if self.at_method() and (method := METHOD.match(data)):
            data = method[0].upper() + data[method.end() :]
        super().data_received(data)
