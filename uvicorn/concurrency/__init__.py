"""Worker threads, calls between threads, and flow control."""
