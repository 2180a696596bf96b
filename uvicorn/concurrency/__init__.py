"""Threads and event loops: pools, calls from one to the other, flow control between them."""
