"""Lets aiohttp run the server that is not its own: its sites listen, its runner starts and stops (gateway/downstream.py)."""

from aiohttp import web

from gateway.downstream import DownstreamServer


class GatewayRunner(web.BaseRunner):
    """Lets aiohttp's sites (SockSite, TCPSite, UnixSite) serve a DownstreamServer."""

    __slots__ = ("_downstream",)

    def __init__(self, server: DownstreamServer, *, shutdown_timeout: float = 30.0) -> None:
        super().__init__(shutdown_timeout=shutdown_timeout)
        self._downstream = server

    async def _make_server(self) -> web.Server:
        return self._downstream  # type: ignore[return-value] # a protocol factory with pre_shutdown and shutdown is all it calls

    async def shutdown(self) -> None:
        """Nothing beside the server itself."""

    async def _cleanup_server(self) -> None:
        """Nothing beside the server itself."""
