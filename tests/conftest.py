"""The tests run in the clean environment, as in `make test`, even if pytest is started by hand."""

from tools.surroundings import adopt, clean_environment

adopt(clean_environment())
