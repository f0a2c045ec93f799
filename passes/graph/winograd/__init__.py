"""Winograd's algorithm for convolutions: finding them, what it costs, the graph that it makes."""
