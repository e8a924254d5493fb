"""examples/shop-ecs: the pipeline's stack owns no part of the load balancer, and no deployment moves the weights."""

import copy
import json
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request

import botocore.exceptions
import pytest
import yaml

from tests.template import deployed
from tests.template.shop_ecs import ACCOUNT, EXAMPLE, FILES, FOR_THE_PIPELINE, IMAGE, running, template
from tests.template.test_template import lint
from tools.layout import REGION
from tools.ports import free_port


def of_the_load_balancer(what):
    """Returns the resources in a template that are, or may contain, listeners, rules, weights or target groups."""
    return sorted(name for name, one in what["Resources"].items() if one["Type"] not in FOR_THE_PIPELINE)


def imports(value):
    """Yields the names of exports in a value; `platform-` and the name of the application's stack are left out."""
    if isinstance(value, dict):
        if value.keys() == {"Fn::ImportValue"}:
            yield re.sub(r"^platform-\$\{(AWS::StackName|Application)\}-", "", value["Fn::ImportValue"]["Fn::Sub"])
        else:
            for one in value.values():
                yield from imports(one)
    elif isinstance(value, list):
        for one in value:
            yield from imports(one)


def exports():
    """Returns the names of the platform's exports, without the name of its stack."""
    names = [one["Export"]["Name"]["Fn::Sub"] for one in template("platform.yaml")["Outputs"].values()]
    assert all(name.startswith("${AWS::StackName}-") for name in names)
    return {name.removeprefix("${AWS::StackName}-") for name in names}


# ---- The templates as they are written ---------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_the_template_is_clean(file):
    lint(str(EXAMPLE / file))


@pytest.mark.parametrize("file", FILES)
def test_no_yaml_alias_is_used_because_cloudformation_takes_none(file):
    events = yaml.parse((EXAMPLE / file).read_text())
    assert [str(one.start_mark) for one in events if isinstance(one, yaml.AliasEvent)] == []


def test_nothing_that_the_pipeline_updates_owns_rules_weights_or_target_groups():
    assert of_the_load_balancer(template("template.yaml")) == []
    assert {"Blue", "Green", "Listener", "ProductionRule", "TestRule"} <= set(
        of_the_load_balancer(template("platform.yaml"))
    )


@pytest.mark.parametrize("name", ["Blue", "Green", "Listener", "ProductionRule", "TestRule"])
def test_a_part_of_the_load_balancer_in_the_pipelines_template_is_noticed(name):
    broken = copy.deepcopy(template("template.yaml"))
    broken["Resources"][name] = template("platform.yaml")["Resources"][name]
    assert of_the_load_balancer(broken) == [name]


def test_the_service_takes_the_load_balancer_from_the_platform():
    (balancer,) = template("template.yaml")["Resources"]["Service"]["Properties"]["LoadBalancers"]
    taken = {key: list(imports(value)) for key, value in balancer["AdvancedConfiguration"].items()}
    assert taken == {
        "AlternateTargetGroupArn": ["Green"],
        "ProductionListenerRule": ["ProductionRule"],
        "TestListenerRule": ["TestRule"],
        "RoleArn": ["InfrastructureRoleArn"],
    }
    assert list(imports(balancer["TargetGroupArn"])) == ["Blue"]


def test_every_import_is_an_export_and_every_export_is_imported():
    imported = {name for file in ("template.yaml", "deployer-policy.yaml") for name in imports(template(file))}
    assert imported == exports()


def test_both_rules_and_both_target_groups_begin_equal():
    resources = template("platform.yaml")["Resources"]
    assert resources["Blue"]["Properties"] == resources["Green"]["Properties"]
    production, test = (resources[name]["Properties"] for name in ("ProductionRule", "TestRule"))
    assert production["Actions"] == test["Actions"]
    assert test["Priority"] < production["Priority"], "the rule for every request would match test requests first"
    # ECS does not deploy behind a listener that mixes forward actions with other actions.
    actions = [*production["Actions"], *test["Actions"], *resources["Listener"]["Properties"]["DefaultActions"]]
    assert {one["Type"] for one in actions} == {"forward"}


def test_the_parameters_are_those_that_people_and_the_pipeline_give():
    app, platform = (template(file)["Parameters"] for file in ("template.yaml", "platform.yaml"))
    assert {"ImageUri", "VPC", "Subnet1", "Subnet2"} <= set(app)
    # The managed pipeline gives only ImageUri.
    assert [name for name, one in app.items() if "Default" not in one] == ["ImageUri"]
    assert {name for name, one in platform.items() if "Default" not in one} == {
        "VPC",
        "Subnet1",
        "Subnet2",
        "ClientCidr",
        "ImageRepositoryArn",
    }


@pytest.mark.parametrize(
    ("uri", "accepted"),
    [
        (f"{IMAGE}@sha256:{'0a' * 32}", True),
        (f"{IMAGE}:v1", False),
        (f"{IMAGE}:v1@sha256:{'0a' * 32}", False),
        (f"{IMAGE}@sha256:{'0a' * 31}", False),
        (f"docker.io/library/shop@sha256:{'0a' * 32}", False),
        (IMAGE, False),
    ],
)
def test_an_image_is_named_by_its_digest(uri, accepted):
    pattern = template("template.yaml")["Parameters"]["ImageUri"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, uri)) == accepted


def test_the_deployment_goes_back_on_every_alarm_of_the_template():
    resources = template("template.yaml")["Resources"]
    alarms = {name: one["Properties"] for name, one in resources.items() if one["Type"] == "AWS::CloudWatch::Alarm"}
    watched = resources["Service"]["Properties"]["DeploymentConfiguration"]["Alarms"]
    assert watched == {"AlarmNames": [{"Ref": name} for name in alarms], "Enable": True, "Rollback": True}
    # One glob, such as shop-*, selects the alarms for the bake of a wave, and the pipeline may only make these alarms.
    assert all(one["AlarmName"]["Fn::Sub"].startswith("${AWS::StackName}-") for one in alarms.values())
    # An alarm that takes longer than the bake could not bring the old version back in time.
    slowest = max(one["EvaluationPeriods"] * one.get("Period", 60) for one in alarms.values())
    assert template("template.yaml")["Parameters"]["BakeMinutes"]["Default"] * 60 > slowest
    assert "DeploymentCircuitBreaker" not in resources["Service"]["Properties"]["DeploymentConfiguration"]


# ---- The templates as they are deployed ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop():
    with running() as shop:
        yield shop


def test_the_outputs_name_the_page_and_the_image(shop):
    assert shop.outputs["DNSName"] == shop.platform["DNSName"] != ""
    assert shop.outputs["ImageUri"] == f"{IMAGE}@sha256:{'a' * 64}"
    assert shop.policy == {"PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/deploy-shop-{REGION}"}


def test_one_parameter_chooses_between_blue_green_and_canary(shop):
    image = {"ImageUri": f"{IMAGE}@sha256:{'a' * 64}"}
    shop.deploy("update", "shop", "template.yaml", image | {"DeploymentStrategy": "CANARY"})
    canary = shop.service()["deploymentConfiguration"]
    shop.deploy("update", "shop", "template.yaml", image | {"DeploymentStrategy": "BLUE_GREEN"})
    blue_green = shop.service()["deploymentConfiguration"]
    assert (canary["strategy"], blue_green["strategy"]) == ("CANARY", "BLUE_GREEN")
    assert canary["canaryConfiguration"] == {"canaryPercent": 10, "canaryBakeTimeInMinutes": 5}
    assert "canaryConfiguration" not in blue_green
    for one in (canary, blue_green):
        assert one["bakeTimeInMinutes"] == 5
        assert one["alarms"] == {
            "alarmNames": ["shop-errors", "shop-unreachable", "shop-latency"],
            "enable": True,
            "rollback": True,
        }


def test_the_live_weights_survive_deployments_and_an_unrelated_update(shop):
    for rule in (shop.platform["ProductionRule"], shop.platform["TestRule"]):
        # ECS makes such a call when it moves all requests. The emulator keeps no weights, but the one target group.
        actions = [{"Type": "forward", "TargetGroupArn": shop.platform["Green"]}]
        shop.client("elbv2").modify_rule(RuleArn=rule, Actions=actions)
    live = shop.rules()
    assert {one["Actions"][0]["TargetGroupArn"] for one in live} == {shop.platform["Green"]}
    for digest, more in (("b", {}), ("c", {}), ("c", {"Architecture": "X86_64"})):
        shop.deploy("update", "shop", "template.yaml", {"ImageUri": f"{IMAGE}@sha256:{digest * 64}"} | more)
        assert shop.rules() == live
    task = shop.client("ecs").describe_task_definition(taskDefinition=shop.service()["taskDefinition"])
    (container,) = task["taskDefinition"]["containerDefinitions"]
    assert container["image"] == f"{IMAGE}@sha256:{'c' * 64}"


def test_the_network_comes_from_the_platform_or_from_all_three_parameters(shop):
    image = {"ImageUri": f"{IMAGE}@sha256:{'d' * 64}"}
    shop.deploy("update", "shop", "template.yaml", image)
    assert shop.service()["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == shop.subnets
    with pytest.raises(botocore.exceptions.ClientError, match="set all three or none"):
        shop.deploy("update", "shop", "template.yaml", image | {"VPC": shop.vpc})
    own = {"VPC": shop.vpc, "Subnet1": shop.subnets[1], "Subnet2": shop.subnets[0]}
    shop.deploy("update", "shop", "template.yaml", image | own)
    assert shop.service()["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == shop.subnets[::-1]
    shop.deploy("update", "shop", "template.yaml", image)


# ---- The page and the README ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variables", "status"), [({"COLOR": "green"}, 200), ({"COLOR": "red", "FAILING": "1"}, 500)])
def test_the_page_shows_its_color_or_fails_while_it_is_healthy(variables, status):
    port = free_port()
    command = [sys.executable, "-I", str(EXAMPLE / "page" / "server.py"), f"127.0.0.1:{port}"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as page:
        try:
            assert page.stdout and variables["COLOR"] in page.stdout.readline()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    got, text = answer.status, answer.read().decode()
                assert f"background: {variables['COLOR']}" in text
            except urllib.error.HTTPError as error:
                got = error.code
            assert got == status
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as answer:
                assert answer.status == 200
        finally:
            page.terminate()


def test_the_image_takes_the_color_as_an_argument_and_needs_no_emulation():
    lines = (EXAMPLE / "page" / "Dockerfile").read_text().splitlines()
    words = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert {"ARG COLOR=blue", "ENV COLOR=$COLOR FAILING=$FAILING", "COPY server.py /server.py"} <= set(lines)
    assert "RUN" not in words and "USER" in words


README = (EXAMPLE / "README.md").read_text()


def blocks(language):
    """Returns the code blocks of the README in a language, without their indentation and their line continuations."""
    found = re.findall(rf"(?ms)^ *```{language}\n(.*?)^ *```$", README)
    return [re.sub(r" *\\\n *", " ", block) for block in found]


def test_the_commands_name_the_templates_and_all_parameters_that_have_no_default():
    lines = [line for block in blocks("sh") for line in block.splitlines() if "aws cloudformation deploy" in line]
    files = []
    for line in lines:
        files += re.findall(r"--template-file examples/shop-ecs/(\S+)", line)
        given = set(re.findall(r" ([A-Za-z0-9]+)=", line))
        parameters = template(files[-1])["Parameters"]
        assert given <= set(parameters), line
        assert {name for name, one in parameters.items() if "Default" not in one} <= given, line
        kinds = {one["Type"] for one in template(files[-1])["Resources"].values()}
        assert ("--capabilities" in line) == any(kind.startswith("AWS::IAM::") for kind in kinds), line
    assert sorted(files) == sorted(FILES)


def test_the_stack_policy_protects_the_rules_that_ecs_changes():
    (text,) = re.findall(r"(?s)--stack-policy-body '(.*?)'", "".join(blocks("sh")))
    allowed, denied = json.loads(text)["Statement"]
    assert (allowed["Effect"], allowed["Resource"], denied["Effect"]) == ("Allow", "*", "Deny")
    kinds = {name: one["Type"] for name, one in template("platform.yaml")["Resources"].items()}
    rules = {name for name, kind in kinds.items() if kind == "AWS::ElasticLoadBalancingV2::ListenerRule"}
    assert set(denied["Resource"]) == {f"LogicalResourceId/{name}" for name in rules}


def test_the_parameters_for_the_stack_sekisho_exist_and_the_routes_name_their_actions():
    parameters, routes = blocks("toml")[0] + blocks("toml")[1], tomllib.loads(blocks("toml")[2])["route"]
    assert set(re.findall(r'"([A-Za-z]+)=', parameters)) <= set(deployed.source()["Parameters"])
    (stage,) = [
        one for one in deployed.source()["Resources"]["Pipeline"]["Properties"]["Stages"] if one.get("Name") == "Source"
    ]
    actions = re.findall(r"'Name': '(\w+)', 'Namespace'", str(stage))
    assert [one["target"][0]["action"] for one in routes] == actions == ["Source", "Image"]
    name = template("deployer-policy.yaml")["Resources"]["DeployerPolicy"]["Properties"]["ManagedPolicyName"]["Fn::Sub"]
    policy = name.replace("${Application}", "shop").replace("${AWS::Region}", REGION)
    assert f"arn:aws:iam::{ACCOUNT}:policy/{policy}" in parameters
