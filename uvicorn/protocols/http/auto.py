"""`AutoHTTPProtocol`, which can be imported, but not called."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as AutoHTTPProtocol

__all__ = ["AutoHTTPProtocol"]
