"""What carries broadcast messages from one process to the others; chosen by URL, see `uvicorn.broadcast.urls`."""
