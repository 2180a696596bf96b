"""Worker threads and event loops: pools, calls between threads, flow control."""
