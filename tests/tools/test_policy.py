"""The tools judge a glob as the functions do, and a policy as IAM does, or report that the result is unclear."""

import pytest

from tools.operations.policy import Unclear, allows
from tools.operations.routes import includes, matches, routes_to


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


@pytest.mark.parametrize(
    ("name", "included"), [("main", True), ("wip/1", False), ("wip/keep", True), ("wip/keep/1", False)]
)
def test_the_last_matching_glob_decides(name, included):
    assert includes(("**", "!wip/**", "wip/keep"), name) is included
    assert not includes((), name)


def test_lists_of_accounts_and_regions_lead_to_each_combination():
    text = """
        [[route]]
        repository = "shop"
        region = "us-east-1"
        branches = ["main"]
        [[route.target]]
        accounts = ["222222222222", "333333333333"]
        regions = ["ap-northeast-1", "us-east-1"]
        pipeline = "shop"
        action = "Source"
        variables = { TAG = "{tag}" }
    """
    for account in ("222222222222", "333333333333"):
        (route,) = routes_to(account, "us-east-1", text)
        assert (route.region, route.variables) == ("us-east-1", (("TAG", "{tag}"),))
        assert "region us-east-1" in str(route)
    assert routes_to("222222222222", "us-west-2", text) == []
    assert routes_to("222222222222", "us-east-1", text, "us-east-1") != []
    assert routes_to("222222222222", "us-east-1", text, "ap-northeast-1") == []


def test_a_route_of_an_image_is_another_route():
    target = '[[route.target]]\naccount = "222222222222"\nregion = "us-east-1"\npipeline = "shop"\naction = "Image"\n'
    routes = [f'[[route]]\n{kind} = "shop"\ntags = ["v*"]\n{target}' for kind in ("image", "repository")]
    of_image, of_code = routes_to("222222222222", "us-east-1", "\n".join(routes))
    assert (of_image.repository, of_image.is_image, of_code.is_image) == ("shop", True, False)
    assert of_image != of_code and str(of_image).startswith("image shop (tags v*) to action Image")


def test_the_targets_of_waves_have_the_settings_of_their_wave():
    text = """
        [[route]]
        name = "shop"
        repository = "shop"
        branches = ["main"]
        [[route.wave]]
        name = "one-box"
        bake = "30m"
        alarms = ["shop-*"]
        [[route.wave.target]]
        account = "222222222222"
        region = "us-east-1"
        pipeline = "shop"
        action = "Source"
        [[route.wave]]
        name = "tokyo"
        [[route.wave.target]]
        accounts = ["333333333333"]
        regions = ["ap-northeast-1", "us-east-1"]
        pipeline = "shop"
        action = "Source"
    """
    (first,) = routes_to("222222222222", "us-east-1", text)
    assert (first.wave, first.bake, first.alarms) == ("one-box", "30m", ("shop-*",))
    assert "wave one-box; bake 30m; alarms shop-*" in str(first)
    (second,) = routes_to("333333333333", "ap-northeast-1", text)
    assert (second.wave, second.bake, second.alarms) == ("tokyo", None, ())


def test_the_name_of_an_alarm_has_no_folders():
    for glob in ("shop-*", "shop?a/b"):
        assert matches(glob, "shop-a/b", folders=False)
    assert not matches("shop-*", "shop-a/b")
    assert includes(("shop-*", "!shop-slow*"), "shop-a/b", folders=False)
    assert not includes(("shop-*", "!shop-slow*"), "shop-slow/b", folders=False)


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


def test_a_deny_spares_what_its_not_resource_names():
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/*"}
    deny = {"Effect": "Deny", "Action": "s3:PutObject", "NotResource": ["arn:aws:s3:::b/reports/*"]}
    policy = {"Statement": [allow, deny]}
    assert allows(policy, "s3:PutObject", "arn:aws:s3:::b/reports/1", {})
    assert not allows(policy, "s3:PutObject", "arn:aws:s3:::b/other/1", {})
