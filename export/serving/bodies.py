"""Reads the bodies of requests: in time, none too large, and not too much of them at once. Starlette only."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from protocol import Fault
from starlette.requests import ClientDisconnect, Request

BODY_SECONDS = 60  # a client that sends slower is sent away
DRAIN = 4  # times the largest body: so much of a refused one is read and dropped, or its sender would not hear why


class Bodies:
    """What is held in memory of requests: while they arrive, wait and are computed.

    Args:
        most: bytes of one body.
        together: bytes of all bodies.
    """

    def __init__(self, most: int, together: int):
        self.most, self._together = most, together
        self._held = 0

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body, once all of it is there; it counts as held until the context ends.

        Raises:
            Fault: for a body that is compressed, too large, too slow or one too many, if the client leaves, and if the
                server is ended meanwhile.
        """
        parts: list[bytes] = []
        try:
            await self._read(request, parts)
            parts[:] = [b"".join(parts)]  # not twice in memory
            yield parts[0]
        except asyncio.CancelledError:
            raise Fault("the server is ending", 503) from None
        finally:
            self._drop(parts)

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        fault, size = self._refusal(request), 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    fault = fault or self._excess(size, len(part))
                    if fault is None:
                        parts.append(part)
                        self._held += len(part)
                        continue
                    self._drop(parts)
                    if size > DRAIN * self.most:
                        break
        except TimeoutError:
            fault = fault or Fault(f"the body did not arrive within {BODY_SECONDS} seconds", 408)
        except ClientDisconnect:
            raise Fault("the client left") from None
        if fault is not None:
            raise fault

    def _refusal(self, request: Request) -> Fault | None:
        """What the headers are enough for."""
        if request.headers.get("content-encoding", "identity") != "identity":
            return Fault("a compressed body is not taken", 415)
        length = request.headers.get("content-length", "")
        return self._excess(int(length), 0) if length.isdecimal() else None

    def _excess(self, size: int, more: int) -> Fault | None:
        if size > self.most:
            return Fault(f"the body is larger than the {self.most / 1e6:g} MB that are taken", 413)
        if self._held + more > self._together:
            return Fault(f"{self._held / 1e6:.0f} MB of requests are waiting already. Try again later.", 429)
        return None

    def _drop(self, parts: list[bytes]) -> None:
        self._held -= sum(map(len, parts))
        parts.clear()
