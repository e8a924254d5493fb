#!/usr/bin/env python3
"""Walks the way from the repositories to a pipeline account, hop by hop, and names the first broken link and its mend.

make doctor ENV=production

Reads what is deployed in the two accounts; changes nothing. What it can't judge it says, and goes on.
"""

import argparse
import json
import sys
from functools import cache, cached_property

from account import Account, Broken, need
from botocore.exceptions import BotoCoreError, ClientError
from environment import ROOT, Refused, environment
from policy import Unclear, allows
from routes import CONFIG, leading_to, matches

BUS = "sekisho"
LEDGER = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"]
HEADS = ["codecommit:GetBranch", "codecommit:GetDifferences", "codecommit:ListBranches"]
SOURCE = ["codecommit:UploadArchive", "codecommit:GetBranch", "codecommit:GetCommit", "codecommit:GetUploadArchiveStatus"]
# CodePipeline hands what it puts into another account's bucket to that account, by ACL.
PUT = ["s3:PutObject", "s3:PutObjectAcl"]
START = ["codepipeline:StartPipelineExecution", "codepipeline:GetPipelineExecution", "codepipeline:ListPipelineExecutions",
         "codepipeline:ListActionExecutions"]
ARTIFACTS = ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
KEY = ["kms:GenerateDataKey", "kms:Decrypt"]
BY_HAND = "Where make deploy finds nothing to change, it was changed by hand: docs/deploy.md, Changed by hand."


class Way:
    """The way of a change, from the repository account to the pipeline account."""

    def __init__(self, repositories, pipelines):
        self.repositories, self.pipelines = repositories, pipelines
        # What the hop under way could not judge.
        self.unclear = []

    # What the stacks made, by name

    @property
    def relay(self):
        return self.repositories.output("EventRelayArn", "HostsRepositories")

    @property
    def relay_role(self):
        return self.repositories.output("EventRelayRoleArn", "HostsRepositories")

    @property
    def source_role(self):
        return self.repositories.output("SourceActionRoleArn", "HostsRepositories")

    @property
    def starter(self):
        return self.pipelines.output("PipelineStarterArn", "HostsPipelines")

    @property
    def starter_role(self):
        return self.pipelines.output("PipelineStarterRoleArn", "HostsPipelines")

    @property
    def pipeline_role(self):
        return self.pipelines.output("PipelineRoleArn", "HostsPipelines")

    @property
    def bucket(self):
        return self.pipelines.output("ArtifactBucketName", "HostsPipelines")

    @property
    def key(self):
        return self.pipelines.output("ArtifactKeyArn", "HostsPipelines")

    # What mends it where one account does not know the other

    @property
    def name_pipelines(self):
        return f"add {self.pipelines.id} to PipelineAccountIds (or to the unit of PipelineOrgPath) of {self.repositories.target.name} in samconfig.toml, then {self.repositories.deploy}"

    @property
    def name_repositories(self):
        return f"set RepositoryAccountId={self.repositories.id} for {self.pipelines.target.name} in samconfig.toml, then {self.pipelines.deploy}"

    # How policies are asked

    def allowed(self, asked, why, mend):
        """Needs what policies say; where that can't be judged, it is noted."""
        try:
            need(asked(), why, mend)
        except Unclear as unclear:
            self.unclear.append(f"whether {why}: {unclear}")

    def may(self, role, actions, resource, what, mend, context=None):
        for action in actions:
            self.allowed(lambda action=action: role.may(action, resource, context), f"{role.arn} may not {what} ({action})", mend)

    def lets_in(self, document, role, action, resource, what, mend, context=None):
        """A resource's policy lets a role in, of its own account or another."""
        context = (context or {}) | {"aws:PrincipalArn": role, "aws:SecureTransport": "true"}
        self.allowed(lambda: allows(document, action, resource, context, role.split(":")[4]), f"{what} does not let {role} in ({action})", mend)

    def taken_by(self, account, arn, service, context=None):
        """A role that a service may take, as it must to act."""
        role = account.role(arn)
        self.allowed(lambda: allows(role.trust, "sts:AssumeRole", "*", context or {}, service), f"{arn} does not trust {service}", account.deploy)
        return role

    def runs(self, account, function, arn):
        """The role of a function that runs and keeps its ledger."""
        account.runs(function, arn)
        role = self.taken_by(account, arn, "lambda.amazonaws.com")
        table = account.outputs["LedgerTableName"]
        self.may(role, LEDGER, f"arn:aws:dynamodb:{account.region}:{account.id}:table/{table}", f"keep the ledger {table}", account.deploy)
        return role

    @cached_property
    def routed(self):
        """The routes to this account and region, as the config here has them."""
        found = leading_to(self.pipelines.id, self.pipelines.region, CONFIG.read_text())
        need(found, f"no route leads to account {self.pipelines.id} in {self.pipelines.region}", f"add a target to {CONFIG.name}, then deploy to both accounts")
        return found

    # The hops

    def both_know_the_routes(self):
        """both accounts have the routes to here as config/sekisho.toml says"""
        for account, function in ((self.repositories, self.relay), (self.pipelines, self.starter)):
            try:
                deployed = leading_to(self.pipelines.id, self.pipelines.region, account.config(function))
            except Unclear as unclear:
                self.unclear.append(f"whether account {account.id} has the same routes: {unclear}")
                continue
            mend = f"{account.deploy}, where {CONFIG.name} here is the newer one"
            for one in self.routed:
                need(one in deployed, f"account {account.id} has no route of {one}, which {CONFIG.name} here has", mend)
            for one in deployed:
                need(one in self.routed, f"account {account.id} has a route of {one}, which {CONFIG.name} here has not", mend)

    def relay_hears(self):
        """event-relay hears of changes, and looks for itself every five minutes"""
        change = {"source": ["aws.codecommit"], "detail-type": ["CodeCommit Repository State Change"]}
        self.repositories.rule("sekisho-repository-change", change, self.relay)
        self.repositories.rule("sekisho-reconcile", "rate(5 minutes)", self.relay)

    def relay_runs(self):
        """event-relay runs, keeps its ledger and reads the repositories"""
        role = self.runs(self.repositories, self.relay, self.relay_role)
        for one in self.routed:
            arn = f"arn:aws:codecommit:{self.repositories.region}:{self.repositories.id}:{one.repository}"
            self.may(role, HEADS, arn, f"read {one.repository}", self.repositories.deploy)
            if not one.one_repository:
                self.may(role, ["codecommit:ListRepositories"], "*", f"look for {one.repository}", self.repositories.deploy)

    def relay_speaks(self):
        """event-relay may put events on the pipeline account's bus"""
        bus = f"arn:aws:events:{self.pipelines.region}:{self.pipelines.id}:event-bus/{BUS}"
        self.may(self.repositories.role(self.relay_role), ["events:PutEvents"], bus, f"put events on {bus}", self.name_pipelines)

    def bus_lets_in(self):
        """the bus lets event-relay in"""
        bus, events = self.pipelines.output("EventBusArn", "HostsPipelines"), self.pipelines.client("events")
        try:
            policy = json.loads(events.describe_event_bus(Name=BUS).get("Policy") or "{}")
        except events.exceptions.ResourceNotFoundException:
            raise Broken(f"bus {BUS} of account {self.pipelines.id} is gone", self.pipelines.deploy) from None
        context = {"events:source": "sekisho.relay", "events:detail-type": "Source Change"}
        self.lets_in(policy, self.relay_role, "events:PutEvents", bus, f"the policy of {bus}", self.name_repositories, context)

    def starter_hears(self):
        """pipeline-starter hears of what the repository account relays, and believes it"""
        change = {"source": ["sekisho.relay"], "detail-type": ["Source Change"], "account": [self.repositories.id]}
        self.pipelines.rule("sekisho-source-change", change, self.starter, BUS, self.name_repositories)
        variables = self.pipelines.function(self.starter)["Configuration"]["Environment"]["Variables"]
        need(variables.get("REPOSITORY_ACCOUNT_ID") == self.repositories.id, "pipeline-starter believes another account", self.name_repositories)

    def starter_runs(self):
        """pipeline-starter runs, keeps its ledger and may start each routed pipeline"""
        role = self.runs(self.pipelines, self.starter, self.starter_role)
        for one in self.routed:
            arn = f"arn:aws:codepipeline:{self.pipelines.region}:{self.pipelines.id}:{one.pipeline}"
            self.may(role, START, arn, f"start {one.pipeline}", self.pipelines.deploy)

    def pipelines_are_there(self):
        """each routed pipeline is there, and its source action is of the routed repository and branch"""
        branches = {}
        for one in self.routed:
            branches.setdefault((one.pipeline, one.action), []).extend(one.branches)
        for one in self.routed:
            pipeline, source = self.source_action(one)
            settings, mend = source.get("configuration", {}), f"correct the route in {CONFIG.name} and deploy to both accounts, or {self.mend(one.pipeline)}"
            repository, branch, where = settings.get("RepositoryName"), settings.get("BranchName"), f"source action {one.action} of pipeline {one.pipeline}"
            kind = source["actionTypeId"]
            need((kind["category"], kind["provider"]) == ("Source", "CodeCommit"), f"{where} takes no source from CodeCommit, but from {kind['provider']}", mend)
            region = source.get("region", self.pipelines.region)
            need(region == self.repositories.region, f"{where} takes its source in {region}, but the repositories are in {self.repositories.region}", mend)
            self.allowed(lambda: matches(one.repository, repository), f"{where} takes repository {repository}, and the route is of {one.repository}", mend)
            # Where only tags are routed, the branch does not matter: the commit is pinned.
            if globs := branches[one.pipeline, one.action]:
                self.allowed(lambda: any(matches(glob, branch) for glob in globs),
                             f"{where} takes branch {branch}, and its routes are of {', '.join(globs)}", mend)

    @cache
    def source_action(self, route):
        """A routed pipeline, and in it the source action."""
        codepipeline = self.pipelines.client("codepipeline")
        try:
            found = codepipeline.get_pipeline(name=route.pipeline)["pipeline"]
        except codepipeline.exceptions.PipelineNotFoundException:
            raise Broken(f"account {self.pipelines.id} has no pipeline {route.pipeline}, which {CONFIG.name} routes to",
                         f"set ManagesPipeline=true for {self.pipelines.target.name} in samconfig.toml and {self.pipelines.deploy}, or correct the route") from None
        for stage in found["stages"]:
            for one in stage["actions"]:
                if one["name"] == route.action:
                    return found, one
        raise Broken(f"pipeline {route.pipeline} has no action {route.action}", f"correct `action` in {CONFIG.name}, then deploy to both accounts")

    def mend(self, pipeline):
        """How a pipeline is corrected."""
        profile = f"--profile {self.pipelines.target.profile} --region {self.pipelines.region}"
        return (f"{self.pipelines.deploy} where the stack manages it; else aws codepipeline get-pipeline --name {pipeline} --query '{{pipeline: pipeline}}' "
                f"{profile} > {pipeline}.json, correct that, aws codepipeline update-pipeline --cli-input-json file://{pipeline}.json {profile}")

    def pipelines_are_right(self):
        """its source action takes the repository account's role, nothing else starts it, and it keeps artifacts in the bucket under the CMK"""
        for one in self.routed:
            (pipeline, source), name, mend = self.source_action(one), one.pipeline, self.mend(one.pipeline)
            need(source.get("roleArn") == self.source_role, f"the source action of {name} takes {source.get('roleArn')}, not {self.source_role}", mend)
            need(source["configuration"].get("PollForSourceChanges") == "false", f"pipeline {name} polls and would run twice", mend)
            need(not pipeline.get("triggers"), f"pipeline {name} has a trigger of its own and would run twice", mend)
            store = artifact_store(pipeline, self.pipelines.region)
            need(store.get("location") == self.bucket, f"pipeline {name} keeps artifacts in {store.get('location')}, not in {self.bucket}", mend)
            need(store.get("encryptionKey", {}).get("id") == self.key, f"pipeline {name} does not name the key by its full ARN {self.key}", mend)
            need(pipeline["roleArn"] == self.pipeline_role, f"pipeline {name} has another role than {self.pipeline_role}, which is trusted", mend)

    def pipeline_takes_role(self):
        """CodePipeline may take the pipeline's role, that one the repository account's source role, which trusts it"""
        context = {"aws:SourceAccount": self.pipelines.id, "aws:SourceArn": f"arn:aws:codepipeline:{self.pipelines.region}:{self.pipelines.id}:{self.routed[0].pipeline}"}
        role = self.taken_by(self.pipelines, self.pipeline_role, "codepipeline.amazonaws.com", context)
        self.may(role, ["sts:AssumeRole"], self.source_role, f"take {self.source_role}", f"{self.name_repositories} (RepositoryRegion, too, where it differs)")
        trust = self.repositories.role(self.source_role).trust
        self.lets_in(trust, self.pipeline_role, "sts:AssumeRole", "*", f"the trust of {self.source_role}", self.name_pipelines)

    def source_is_there(self):
        """each routed repository is there, and the source role may read it"""
        role, codecommit = self.repositories.role(self.source_role), self.repositories.client("codecommit")
        names = [one["repositoryName"] for page in codecommit.get_paginator("list_repositories").paginate() for one in page["repositories"]]
        for name in [one.repository for one in self.routed if one.one_repository]:
            need(name in names, f"account {self.repositories.id} has no repository {name}", f"make it there, or correct `repository` in {CONFIG.name}")
            arn = f"arn:aws:codecommit:{self.repositories.region}:{self.repositories.id}:{name}"
            self.may(role, SOURCE, arn, f"read {name}", self.repositories.deploy)

    def source_goes_into_bucket(self):
        """the source role may write to the artifact bucket, and the bucket lets it in"""
        resource = f"arn:aws:s3:::{self.bucket}/one"
        self.may(self.repositories.role(self.source_role), PUT, resource, f"write to {self.bucket}", self.name_pipelines)
        try:
            document = json.loads(self.pipelines.client("s3").get_bucket_policy(Bucket=self.bucket)["Policy"])
        except ClientError as error:
            raise Broken(f"the policy of bucket {self.bucket} can't be read ({error})", self.pipelines.deploy) from None
        context = {"s3:x-amz-server-side-encryption-aws-kms-key-id": self.key}
        for action in PUT:
            self.lets_in(document, self.source_role, action, resource, f"bucket {self.bucket}", self.name_repositories, context)

    def source_goes_under_key(self):
        """the source role may use the key through S3, and the key lets it"""
        state = self.pipelines.client("kms").describe_key(KeyId=self.key)["KeyMetadata"]["KeyState"]
        first = "cancel-key-deletion" if state == "PendingDeletion" else "enable-key"
        need(state == "Enabled", f"key {self.key} is {state}", self.pipelines.administrator(f"kms {first} --key-id {self.key}"))
        self.uses_key(self.repositories.role(self.source_role), self.repositories.deploy, self.name_repositories)

    def pipeline_hands_on(self):
        """the pipeline's role may read and write artifacts, under the key"""
        role = self.pipelines.role(self.pipeline_role)
        self.may(role, ARTIFACTS, f"arn:aws:s3:::{self.bucket}/one", f"hand on what is in {self.bucket}", self.pipelines.deploy)
        self.uses_key(role, self.pipelines.deploy, self.pipelines.deploy)

    def uses_key(self, role, mend, mend_of_key):
        kms, context = self.pipelines.client("kms"), {"kms:ViaService": f"s3.{self.pipelines.region}.amazonaws.com"}
        document = json.loads(kms.get_key_policy(KeyId=self.key, PolicyName="default")["Policy"])
        self.may(role, KEY, self.key, f"use {self.key}", mend, context)
        for action in KEY:
            self.lets_in(document, role.arn, action, self.key, f"key {self.key}", mend_of_key, context)

    def hops(self):
        return [self.both_know_the_routes, self.relay_hears, self.relay_runs, self.relay_speaks, self.bus_lets_in, self.starter_hears,
                self.starter_runs, self.pipelines_are_there, self.pipelines_are_right, self.pipeline_takes_role, self.source_is_there,
                self.source_goes_into_bucket, self.source_goes_under_key, self.pipeline_hands_on]

    def walk(self):
        """Prints the hops up to the first that is broken; gives whether all hold."""
        whole = True
        for number, hop in enumerate(self.hops(), 1):
            self.unclear = []
            try:
                hop()
            except Broken as broken:
                print(f"{number:>2}. BROKEN  {hop.__doc__}\n    {broken}\n    Mend: {broken.mend}")
                if "make deploy" in broken.mend:
                    print(f"    {BY_HAND}")
                return False
            except Unclear as unclear:
                self.unclear.append(f"whether it holds: {unclear}")
            print(f"{number:>2}. {'UNCLEAR' if self.unclear else 'holds  '} {hop.__doc__}")
            for one in dict.fromkeys(self.unclear):
                print(f"    Can't tell {one}")
            whole = whole and not self.unclear
        return whole


def artifact_store(pipeline, region):
    """Where a pipeline keeps artifacts in its own region: with actions in several regions, it has a store for each."""
    return pipeline.get("artifactStore") or pipeline.get("artifactStores", {}).get(region, {})


def doctor(name):
    """Walks the way to an environment; gives whether all of it holds."""
    target = environment(name)
    if not target.does("HostsPipelines"):
        raise Refused(f"Environment {name} hosts no pipelines: name one that does.")
    repositories, pipelines = Account(environment(target.repositories)), Account(target)
    print(f"From the repositories in account {repositories.id} to the pipelines in account {pipelines.id}, "
          f"for the routes of {CONFIG.relative_to(ROOT)}:")
    return Way(repositories, pipelines).walk()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, metavar="ENV")
    try:
        sys.exit(0 if doctor(parser.parse_args().env) else 1)
    except (Refused, BotoCoreError, ClientError) as error:
        sys.exit(f"Can't tell. {error}")


if __name__ == "__main__":
    main()
