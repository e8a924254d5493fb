"""Implements every make command: the local stack, the checks, the benchmark, and the operations on AWS accounts."""
