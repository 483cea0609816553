"""Comparisons and timings that no reader and no test has to run; their results are committed beside them."""
