"""The Redis backends: standalone, Sentinel and Cluster."""
