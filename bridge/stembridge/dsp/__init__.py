"""Numeric code on arrays: numpy, scipy and soxr; no files, no sockets."""
