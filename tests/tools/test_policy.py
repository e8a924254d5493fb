"""The tools judge a glob as the functions do, and a policy as IAM does, or report that the result is unclear."""

import pytest

from tools.operations.policy import Unclear, allows
from tools.operations.routes import matches


@pytest.mark.parametrize(
    ("glob", "name", "matched"),
    [
        ("main", "main", True),
        ("main", "main2", False),
        ("release/*", "release/1", True),
        ("release/*", "release/1/2", False),
        ("team/**", "team/a/b", True),
        ("shop-*", "shop", False),
        ("v?", "v1", True),
        ("v?", "v/", False),
        ("a.c", "abc", False),
    ],
)
def test_globs_match_as_those_of_the_functions(glob, name, matched):
    assert matches(glob, name) is matched


def test_a_glob_with_alternatives_is_unclear():
    with pytest.raises(Unclear, match="whether it matches main"):
        matches("{main,next}", "main")


def test_an_unclear_statement_counts_only_if_the_answer_depends_on_it():
    allow, deny = ({"Effect": effect, "Action": "a:*", "Resource": "*"} for effect in ("Allow", "Deny"))
    unclear_allow, unclear_deny = (
        {"Effect": effect, "NotAction": "b:*", "Resource": "*"} for effect in ("Allow", "Deny")
    )

    def ask(*statements):
        return allows({"Statement": list(statements)}, "a:Do", "it", {})

    assert ask(allow, unclear_allow) is True
    assert ask(unclear_deny) is False
    assert ask(unclear_allow, allow, deny) is False
    for statements in ((unclear_allow,), (allow, unclear_deny)):
        with pytest.raises(Unclear):
            ask(*statements)
