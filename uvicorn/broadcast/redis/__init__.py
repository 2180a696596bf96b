"""The Redis backends for one server, for Sentinel and for Cluster."""
