"""The driver of the benchmark in bench/, and its report."""
