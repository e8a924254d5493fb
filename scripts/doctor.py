#!/usr/bin/env python3
"""Walks the way from the repositories to a pipeline account, hop by hop, and names the first broken link and its mend.

make doctor ENV=production

Reads the deployed stacks of the two accounts; changes nothing.
"""

import argparse
import json
import sys
import tomllib
from functools import cached_property

from botocore.exceptions import BotoCoreError, ClientError
from environment import ROOT, Refused, environment
from policy import allows

CONFIG = ROOT / "config" / "sekisho.toml"
BUS = "sekisho"
GLOB = set("*?[{!\\")


class Broken(Exception):
    """A link that does not hold, and its mend."""

    def __init__(self, why, mend):
        super().__init__(why)
        self.mend = mend


class Account:
    """One of the two accounts, with what its stack says of itself."""

    def __init__(self, target):
        self.target, self.id, self.region = target, target.account, target.region
        self.session = target.session()
        self.deploy = f"make deploy ENV={target.name}"

    def client(self, service):
        return self.session.client(service)

    @cached_property
    def outputs(self):
        try:
            stack = self.client("cloudformation").describe_stacks(StackName=self.target.stack)["Stacks"][0]
        except ClientError:
            raise Broken(f"account {self.id} has no stack {self.target.stack} in {self.region}", self.deploy) from None
        if not stack["StackStatus"].endswith("_COMPLETE") or "DELETE" in stack["StackStatus"]:
            raise Broken(f"stack {self.target.stack} of account {self.id} is {stack['StackStatus']}", f"see its events, then {self.deploy}")
        return {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}

    def output(self, name, duty):
        if name not in self.outputs:
            raise Broken(f"the stack of account {self.id} has no {name}", f"set {duty}=true for {self.target.name} in samconfig.toml, then {self.deploy}")
        return self.outputs[name]

    def role(self, arn):
        """A role's trust policy, and one document with all its inline policies."""
        iam, name = self.client("iam"), arn.rpartition("/")[2]
        try:
            trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            raise Broken(f"role {name} of account {self.id} is gone", self.deploy) from None
        inline = [iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in iam.list_role_policies(RoleName=name)["PolicyNames"]]
        return trust, {"Statement": [statement for document in inline for statement in document["Statement"]]}

    def rule(self, name, function, bus="default"):
        """A rule that is on, sends to the function, and may."""
        events = self.client("events")
        try:
            found = events.describe_rule(Name=name, EventBusName=bus)
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"rule {name} of account {self.id} is gone", self.deploy) from None
        if found["State"] != "ENABLED":
            raise Broken(f"rule {name} of account {self.id} is {found['State']}", f"aws events enable-rule --name {name} --event-bus-name {bus} --profile {self.target.profile}")
        if function not in [one["Arn"] for one in events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]]:
            raise Broken(f"rule {name} of account {self.id} does not send to {function}", self.deploy)
        try:
            permission = json.loads(self.client("lambda").get_policy(FunctionName=function)["Policy"])
        except ClientError:
            permission = {"Statement": []}
        if not allows(permission, "lambda:InvokeFunction", function, {"aws:SourceArn": found["Arn"]}, "events.amazonaws.com"):
            raise Broken(f"{function} does not let rule {name} invoke it", self.deploy)
        return found


def need(holds, why, mend):
    if not holds:
        raise Broken(why, mend)


class Way:
    """The way of a change, from the repository account to the pipeline account."""

    def __init__(self, repositories, pipelines):
        self.repositories, self.pipelines = repositories, pipelines
        self.same = repositories.id == pipelines.id

    def let_in(self, owner, document, role, action, resource, context):
        """The owner's policy lets a role of the other account in."""
        return allows(document, action, resource, context | {"aws:PrincipalArn": role, "aws:SecureTransport": "true"}, role.split(":")[4])

    def relay_hears(self):
        """event-relay hears of changes, and looks for itself every five minutes"""
        function = self.repositories.output("EventRelayArn", "HostsRepositories")
        for rule in ("sekisho-repository-change", "sekisho-reconcile"):
            self.repositories.rule(rule, function)

    def relay_speaks(self):
        """event-relay may put events on the pipeline account's bus"""
        bus = f"arn:aws:events:{self.pipelines.region}:{self.pipelines.id}:event-bus/{BUS}"
        _, policy = self.repositories.role(self.repositories.output("EventRelayRoleArn", "HostsRepositories"))
        need(allows(policy, "events:PutEvents", bus, {}), f"the role of event-relay may not put events on {bus}",
             f"add {self.pipelines.id} to PipelineAccountIds of {self.repositories.target.name} in samconfig.toml, then {self.repositories.deploy}")

    def bus_lets_in(self):
        """the bus lets event-relay in"""
        bus, relay = self.pipelines.output("EventBusArn", "HostsPipelines"), self.repositories.output("EventRelayRoleArn", "HostsRepositories")
        events = self.pipelines.client("events")
        try:
            policy = json.loads(events.describe_event_bus(Name=BUS).get("Policy") or "{}")
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"bus {BUS} of account {self.pipelines.id} is gone", self.pipelines.deploy) from None
        context = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
        need(self.let_in(self.pipelines, policy, relay, "events:PutEvents", bus, context), f"the policy of {bus} does not let {relay} in",
             f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}")

    def starter_hears(self):
        """pipeline-starter hears of what the repository account relays, and believes it"""
        function = self.pipelines.output("PipelineStarterArn", "HostsPipelines")
        rule = self.pipelines.rule("sekisho-source-change", function, BUS)
        mend = f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}"
        need(json.loads(rule["EventPattern"]).get("account") == [self.repositories.id], f"rule {rule['Name']} looks for events of another account", mend)
        variables = self.pipelines.client("lambda").get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        need(variables.get("REPOSITORY_ACCOUNT_ID") == self.repositories.id, "pipeline-starter believes another account", mend)

    @cached_property
    def routed(self):
        """The pipelines that the config routes to this account and region, each with its action and repository."""
        routes = tomllib.loads(CONFIG.read_text()).get("route", [])
        found = [(target["pipeline"], target["action"], route["repository"]) for route in routes for target in route["target"]
                 if (target["account"], target["region"]) == (self.pipelines.id, self.pipelines.region)]
        need(found, f"no route leads to account {self.pipelines.id} in {self.pipelines.region}", f"add a target to {CONFIG.name}, then deploy to both accounts")
        return found

    def pipelines_are_there(self):
        """each routed pipeline is there, has its source action, and may be started"""
        _, policy = self.pipelines.role(self.pipelines.output("PipelineStarterRoleArn", "HostsPipelines"))
        for name, action, _ in self.routed:
            self.source_action(name, action)
            arn = f"arn:aws:codepipeline:{self.pipelines.region}:{self.pipelines.id}:{name}"
            need(allows(policy, "codepipeline:StartPipelineExecution", arn, {}), f"the role of pipeline-starter may not start {name}", self.pipelines.deploy)

    def source_action(self, pipeline, action):
        codepipeline = self.pipelines.client("codepipeline")
        try:
            found = codepipeline.get_pipeline(name=pipeline)["pipeline"]
        except codepipeline.exceptions.PipelineNotFoundException:
            raise Broken(f"account {self.pipelines.id} has no pipeline {pipeline}, which {CONFIG.name} routes to",
                         f"set ManagesPipeline=true for {self.pipelines.target.name} in samconfig.toml and {self.pipelines.deploy}, or correct the route") from None
        for stage in found["stages"]:
            for one in stage["actions"]:
                if one["name"] == action:
                    return found, one
        raise Broken(f"pipeline {pipeline} has no action {action}", f"correct `action` in {CONFIG.name}, then {self.pipelines.deploy}")

    def pipelines_are_right(self):
        """its source action takes the repository account's role, does not poll, and keeps artifacts under the CMK"""
        role, key = self.repositories.output("SourceActionRoleArn", "HostsRepositories"), self.pipelines.output("ArtifactKeyArn", "HostsPipelines")
        for name, action, _ in self.routed:
            pipeline, source = self.source_action(name, action)
            mend = f"aws codepipeline update-pipeline --profile {self.pipelines.target.profile}, or {self.pipelines.deploy} where the stack manages it"
            need(source.get("roleArn") == role, f"the source action of {name} takes {source.get('roleArn')}, not {role}", mend)
            need(source["configuration"].get("PollForSourceChanges") == "false", f"pipeline {name} polls and would run twice", mend)
            need(pipeline["artifactStore"].get("encryptionKey", {}).get("id") == key, f"pipeline {name} does not name the key by its full ARN {key}", mend)
            need(pipeline["roleArn"] == self.pipelines.output("PipelineRoleArn", "HostsPipelines"), f"pipeline {name} has another role than the one that is trusted", mend)

    def pipeline_takes_role(self):
        """the pipeline's role may take the repository account's source role, and that one trusts it"""
        pipeline, source = self.pipelines.output("PipelineRoleArn", "HostsPipelines"), self.repositories.output("SourceActionRoleArn", "HostsRepositories")
        _, policy = self.pipelines.role(pipeline)
        need(allows(policy, "sts:AssumeRole", source, {}), f"{pipeline} may not take {source}",
             f"set RepositoryAccountId={self.repositories.id} (and RepositoryRegion) for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}")
        trust, _ = self.repositories.role(source)
        need(self.let_in(self.repositories, trust, pipeline, "sts:AssumeRole", "*", {}), f"{source} does not trust {pipeline}",
             f"add {self.pipelines.id} to PipelineAccountIds of {self.repositories.target.name} in samconfig.toml, then {self.repositories.deploy}")

    def source_is_there(self):
        """each routed repository is there, and the source role may read it"""
        _, policy = self.repositories.role(self.repositories.output("SourceActionRoleArn", "HostsRepositories"))
        codecommit = self.repositories.client("codecommit")
        names = [one["repositoryName"] for page in codecommit.get_paginator("list_repositories").paginate() for one in page["repositories"]]
        for _, _, repository in self.routed:
            if set(repository) & GLOB:
                continue  # A glob is no promise that there is one.
            need(repository in names, f"account {self.repositories.id} has no repository {repository}", f"make it there, or correct `repository` in {CONFIG.name}")
            arn = f"arn:aws:codecommit:{self.repositories.region}:{self.repositories.id}:{repository}"
            need(allows(policy, "codecommit:UploadArchive", arn, {}), f"the source role may not read {repository}", self.repositories.deploy)

    def source_goes_into_bucket(self):
        """the source role may write to the artifact bucket, and the bucket lets it in"""
        bucket, key = self.pipelines.output("ArtifactBucketName", "HostsPipelines"), self.pipelines.output("ArtifactKeyArn", "HostsPipelines")
        source, resource = self.repositories.output("SourceActionRoleArn", "HostsRepositories"), f"arn:aws:s3:::{bucket}/one"
        _, policy = self.repositories.role(source)
        need(allows(policy, "s3:PutObject", resource, {}), f"{source} may not write to {bucket}",
             f"add {self.pipelines.id} to PipelineAccountIds of {self.repositories.target.name} in samconfig.toml, then {self.repositories.deploy}")
        try:
            document = json.loads(self.pipelines.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        except ClientError as error:
            raise Broken(f"the policy of bucket {bucket} can't be read ({error})", self.pipelines.deploy) from None
        context = {"s3:x-amz-server-side-encryption-aws-kms-key-id": key}
        need(self.let_in(self.pipelines, document, source, "s3:PutObject", resource, context), f"bucket {bucket} does not let {source} in",
             f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}")

    def source_goes_under_key(self):
        """the source role may use the key through S3, and the key lets it"""
        key, source = self.pipelines.output("ArtifactKeyArn", "HostsPipelines"), self.repositories.output("SourceActionRoleArn", "HostsRepositories")
        kms, context = self.pipelines.client("kms"), {"kms:ViaService": f"s3.{self.pipelines.region}.amazonaws.com"}
        state = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        need(state == "Enabled", f"key {key} is {state}", f"aws kms enable-key (cancel-key-deletion first) --key-id {key} --profile {self.pipelines.target.profile}")
        _, policy = self.repositories.role(source)
        document = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            need(allows(policy, action, key, context), f"{source} may not {action} with {key}", self.repositories.deploy)
            need(self.let_in(self.pipelines, document, source, action, key, context), f"key {key} does not let {source} {action}",
                 f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}")

    def hops(self):
        return [self.relay_hears, self.relay_speaks, self.bus_lets_in, self.starter_hears, self.pipelines_are_there, self.pipelines_are_right,
                self.pipeline_takes_role, self.source_is_there, self.source_goes_into_bucket, self.source_goes_under_key]


def doctor(name):
    """Prints the hops; gives whether all hold."""
    target = environment(name)
    if not target.does("HostsPipelines"):
        raise Refused(f"Environment {name} hosts no pipelines: name one that does.")
    repositories, pipelines = Account(environment(target.repositories)), Account(target)
    print(f"From the repositories in account {repositories.id} to the pipelines in account {pipelines.id}; "
          f"routes as {CONFIG.relative_to(ROOT)} here says, which both accounts have since they were last deployed to:")
    for number, hop in enumerate(Way(repositories, pipelines).hops(), 1):
        what = hop.__doc__
        try:
            hop()
        except Broken as broken:
            print(f"{number:>2}. BROKEN  {what}\n    {broken}\n    Mend: {broken.mend}")
            return False
        print(f"{number:>2}. holds   {what}")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, metavar="ENV")
    try:
        sys.exit(0 if doctor(parser.parse_args().env) else 1)
    except (Refused, BotoCoreError, ClientError, NotImplementedError) as error:
        sys.exit(f"Can't tell. {error}")


if __name__ == "__main__":
    main()
