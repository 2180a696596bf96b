"""Loop factories under the public release's names; `uvicorn.server.loops` is their home."""
