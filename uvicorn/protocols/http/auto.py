"""`AutoHTTPProtocol`, for imports only."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as AutoHTTPProtocol

__all__ = ["AutoHTTPProtocol"]
