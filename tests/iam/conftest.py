"""The policies of the three accounts, as deployed."""

from template.conftest import accounts  # noqa: F401  (a fixture)
