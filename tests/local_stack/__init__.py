"""Brings the local stack up, runs the demo on it, and the checks."""
