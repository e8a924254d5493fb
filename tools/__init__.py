"""Every make command: the local stack, the checks, the benchmark, and what operators run against AWS."""
