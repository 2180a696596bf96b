"""`AutoHTTPProtocol`, by name only."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as AutoHTTPProtocol

__all__ = ["AutoHTTPProtocol"]
