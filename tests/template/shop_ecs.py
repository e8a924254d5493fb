"""The stacks of examples/shop-ecs, deployed to an account of a local cloud."""

import json
from contextlib import contextmanager
from functools import cache

from samtranslator.yaml_helper import yaml_parse

from tests.template import deployed
from tools.layout import REGION, ROOT

EXAMPLE = ROOT / "examples" / "shop-ecs"
FILES = ["platform.yaml", "template.yaml", "deployer-policy.yaml"]
ACCOUNT, OTHER, REGISTRY = "222222222222", "999999999999", "111111111111"
REPOSITORY = f"arn:aws:ecr:{REGION}:{REGISTRY}:repository/shop"
IMAGE = f"{REGISTRY}.dkr.ecr.{REGION}.amazonaws.com/shop"
# The kinds of resources that a stack which the pipeline updates may have. Nothing of the load balancer is among them.
FOR_THE_PIPELINE = {
    "AWS::CloudWatch::Alarm",
    "AWS::EC2::SecurityGroup",
    "AWS::ECS::Service",
    "AWS::ECS::TaskDefinition",
}


@cache
def template(file):
    """Returns a template of the example, parsed."""
    return yaml_parse((EXAMPLE / file).read_text())


def for_the_emulator(file):
    """Returns a template as the emulator takes it, which reads a number in a parameter as text and has no metric math.

    The numbers are the defaults of their parameters, and an alarm with metric math watches the first of its metrics.
    """
    numbers = {name: one["Default"] for name, one in template(file)["Parameters"].items() if one["Type"] == "Number"}

    def resolved(value):
        if isinstance(value, dict):
            if value.keys() == {"Ref"} and value["Ref"] in numbers:
                return numbers[value["Ref"]]
            return {key: resolved(one) for key, one in value.items()}
        return [resolved(one) for one in value] if isinstance(value, list) else value

    plain = resolved(template(file))
    for one in plain["Resources"].values():
        if metrics := one["Properties"].pop("Metrics", None):
            first = next(metric["MetricStat"] for metric in metrics if "MetricStat" in metric)
            one["Properties"] |= first["Metric"] | {"Statistic": first["Stat"], "Period": first["Period"]}
    return json.dumps(plain)


class Shop:
    """An account of a local cloud with the platform, the policy of the deployer, and the first version of the page."""

    def __init__(self, cloud):
        self.cloud = cloud
        ec2 = self.client("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{REGION}{zone}")[
                "Subnet"
            ]["SubnetId"]
            for number, zone in enumerate("ac")
        ]
        network = {"VPC": self.vpc, "Subnet1": self.subnets[0], "Subnet2": self.subnets[1]}
        more = {"ClientCidr": "198.51.100.7/32", "ImageRepositoryArn": REPOSITORY}
        self.platform = self.deploy("create", "platform-shop", "platform.yaml", network | more)
        self.policy = self.deploy("create", "deploy-shop", "deployer-policy.yaml", {})
        self.outputs = self.deploy("create", "shop", "template.yaml", {"ImageUri": f"{IMAGE}@sha256:{'a' * 64}"})

    def client(self, service):
        return self.cloud.client(ACCOUNT, service)

    def deploy(self, how, stack, file, parameters):
        """Creates or updates a stack, and returns its outputs."""
        cloudformation = self.client("cloudformation")
        getattr(cloudformation, f"{how}_stack")(
            StackName=stack,
            TemplateBody=for_the_emulator(file),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        waiter = cloudformation.get_waiter(f"stack_{how}_complete")
        waiter.wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
        return {one["OutputKey"]: one["OutputValue"] for one in outputs}

    def service(self):
        (found,) = self.client("ecs").describe_services(cluster="platform-shop", services=["shop"])["services"]
        return found

    def rules(self):
        """Returns the two rules with their present weights."""
        arns = [self.platform["ProductionRule"], self.platform["TestRule"]]
        return self.client("elbv2").describe_rules(RuleArns=arns)["Rules"]


@contextmanager
def running():
    """Runs a separate local cloud with the example, which ends with the context."""
    with deployed.cloud() as cloud:
        yield Shop(cloud)
