"""The tests run in the clean environment, as `make test` runs them, also if pytest is started by hand."""

from tools.surroundings import adopt, clean_environment

adopt(clean_environment())
