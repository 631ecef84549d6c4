"""Reads the lake: attribution, results, reports and the command line."""
