"""Checks on AWS what the local stack cannot show. docs/local-stack.md has the same list of checks.

    make smoke ENV=production PROFILE=admin        WRITE=1 also runs the checks that create something

A check reports either that a fact holds, or that it does not hold and what this breaks, or that it can't be seen here.
Without WRITE=1, the command changes nothing. A check removes the resources that it created. The command also works with
the local stack.
"""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tools.failure import Failure
from tools.operations import closed_alias, evidence, experiments, flaps, image_pins, tags
from tools.operations.environment import environment
from tools.operations.facts import Fact, Place, Seen, State, end_in_order, hidden

FACTS = [
    Fact(
        "a pin works although the action's tag does not exist",
        "pipelines",
        True,
        "no image is deployed: each execution fails at its source; give the image action a tag that exists",
        image_pins.pin_needs_no_tag,
    ),
    Fact(
        "CloudFormation may do everything that the stack needs",
        "each",
        False,
        "a deployment fails halfway and is rolled back",
        evidence.cloudformation_may_do_everything,
    ),
    Fact(
        "the outer account of a relayed event is the relay's",
        "pipelines",
        False,
        "pipeline-starter refuses every change, so no pipeline starts",
        evidence.outer_account_is_the_relays,
    ),
    Fact(
        "rules may invoke their targets",
        "each",
        False,
        "events and schedules have no effect",
        evidence.rules_invoke_their_targets,
    ),
    Fact(
        "the actions of the routed pipelines succeed",
        "pipelines",
        False,
        "changes are not deployed",
        evidence.actions_succeed,
    ),
    Fact(
        "the channel gets a message about an approval",
        "pipelines",
        False,
        "nobody in Slack sees that a pipeline waits",
        evidence.channel_gets_messages,
    ),
    Fact(
        "Lambda sends `aws:SourceOrgPaths` when it pulls an image from another account",
        "pipelines",
        False,
        "Lambda creates no function from an image that is shared by unit; admit Lambda by `aws:SourceArn`",
        evidence.lambda_pulls_from_another_account,
    ),
    Fact(
        "an organizational unit is enough (`PipelineOrgPath`)",
        "repositories",
        False,
        "no bus gets a change; name the accounts in `PipelineAccountIds`",
        evidence.organizational_unit_is_enough,
    ),
    Fact(
        "the report bus accepts the reports of pipeline accounts, and their outer account is the target's",
        "repositories",
        False,
        "event-relay repeats each order, and `make where` does not know what runs",
        evidence.reports_arrive,
    ),
    Fact(
        "both buttons of `AskByButton` appear, each below its own notice",
        "access",
        False,
        "people have to type the command",
        evidence.buttons_appear,
    ),
    Fact(
        "the buttons of a train appear below the notices about it, and Chatbot asks for the reason",
        "repositories",
        False,
        "people have to type the command, or use `make hold`, `make pardon` and others",
        evidence.buttons_of_trains_appear,
    ),
    Fact(
        "an execution that waits for an approval stops at once if it is abandoned",
        "pipelines",
        False,
        "a rollback waits until somebody answers the approval",
        evidence.abandoned_executions_stop,
    ),
    Fact(
        "the card of an alarm shows its graph and its logs",
        "each",
        False,
        "people have to look at the console",
        evidence.card_shows_graph,
    ),
    Fact(
        "creating sam's bucket has an account to compare (`aws:ResourceAccount`), or none",
        "each",
        False,
        "the first deployment fails; an administrator deploys the stack of sam's bucket",
        evidence.sam_bucket_was_created,
    ),
    Fact(
        "artifact-checker may change the encryption of an object, and an administrator may not (`DenyOtherRepairs`)",
        "pipelines",
        True,
        "somebody else can put an artifact under another key, or nobody can repair one in place",
        evidence.only_the_checker_repairs,
    ),
    Fact(
        "S3 Batch Operations reads the manifest, repairs with the role's permissions, and writes its report",
        "pipelines",
        False,
        "a large repair ends as incomplete; raise `confirm_above`, so that artifact-checker repairs by itself",
        evidence.jobs_repair_artifacts,
    ),
    Fact(
        "Chatbot's sessions do not name the person who typed",
        "access",
        False,
        "nothing; temp-access could record who asked",
        evidence.chat_sessions_name_nobody,
    ),
    Fact(
        "a Deny on PutObject does not deny UpdateObjectEncryption",
        "pipelines",
        True,
        'artifact-checker can repair no object in place; set `repair = "copy"`',
        experiments.deny_lets_encryption_be_updated,
    ),
    Fact(
        "a part of a multipart upload, which has no headers, is admitted and gets the bucket's key",
        "pipelines",
        True,
        "large artifacts can't be written; set `ArtifactWrites=repair`",
        experiments.part_without_key_passes,
    ),
    Fact(
        "a V1 pipeline refuses a pin",
        "pipelines",
        True,
        "a V1 pipeline runs the head of its branch and nothing reports it, except `make doctor`",
        experiments.v1_pipeline_refuses_pin,
    ),
    Fact(
        "an execution shows its source revisions from its start on",
        "pipelines",
        True,
        "nothing; pipeline-starter recognizes a start whose answer was lost only after the source action has run",
        experiments.revisions_are_shown_from_the_start,
    ),
    Fact(
        "an alarm that rang for a moment stays in its history, and shows when it changed its state",
        "pipelines",
        True,
        "a change that made an alarm ring between two readings of a bake counts as healthy",
        flaps.flap_stays_in_history,
    ),
    Fact(
        "GetFolder with `refs/tags/…` reads the commit of a tag, also of an annotated tag",
        "repositories",
        True,
        "tags are not relayed, or a pipeline starts at an object that is no commit",
        tags.tags_are_read,
    ),
    Fact(
        "a drift-aware change set reverts a change by hand",
        "each",
        True,
        "the commands in docs/deploy.md, Changed by hand, do not help; change the resource back by hand",
        experiments.change_set_reverts_drift,
    ),
    Fact(
        "DescribeSessions shows the ARN of the user or of the role's session as `Owner`, and TerminateSession of "
        "somebody else's session ends its shell",
        "access",
        False,
        "a revoke says that no session was open, and the shell goes on",
        evidence.sessions_are_ended,
    ),
    Fact(
        "a resource policy may deny `lambda:InvokeAsync` at an alias of temp-access, and denies an administrator there",
        "access",
        True,
        "`make person` and `make hub` make no door, see docs/deploy.md, When Lambda refuses the policy of a door",
        closed_alias.policy_closes_an_alias,
    ),
    Fact(
        "a resource policy of an alias of temp-access may only deny, and denies an administrator there",
        "access",
        True,
        "`make person NAME=approvers` closes no door, see docs/deploy.md, When Lambda refuses the policy of a door",
        closed_alias.deny_alone_closes_an_alias,
    ),
    Fact(
        "a removed grant stops working within two minutes",
        "access",
        True,
        "a revoke takes effect later than people expect",
        experiments.removed_grant_stops,
    ),
]


def seen_at(place: Place, fact: Fact, *, writes: bool) -> Seen:
    """The result of a check. If a call fails, the result is `hidden`, and the other checks still run."""
    if fact.writes and not writes:
        return hidden("the check creates something: run it with WRITE=1")
    try:
        return fact.check(place)
    except (Failure, BotoCoreError, ClientError, ResponseParserError, KeyError) as error:
        return evidence.because_of(error)


def smoke(place: Place, *, writes: bool) -> bool:
    """Prints the result of each check; returns whether no fact fails and nothing is left behind."""
    good = True
    for fact in (fact for fact in FACTS if place.does(fact.where)):
        state, detail = seen_at(place, fact, writes=writes)
        print(f"{state.value:<13} {fact.name}\n              {detail}", flush=True)
        if state is State.FAILS:
            good = False
            print(f"              This breaks: {fact.breaks}", flush=True)
    for what in place.left:
        print(f"NOT REMOVED   {what}: remove it yourself", flush=True)
    return good and not place.left


def main(arguments: list[str]) -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="make smoke", description="Checks on AWS what the local stack cannot show")
    parser.add_argument("--env", required=True, metavar="ENV")
    parser.add_argument("--profile", help="of an administrator, who can read everything; else the environment's own")
    parser.add_argument("--write", action="store_true", help="also run the checks that create something")
    asked = parser.parse_args(arguments)
    end_in_order()
    try:
        place = Place(environment(asked.env, asked.profile))
        extent = "checks that create something run, too" if asked.write else "nothing is changed"
        print(f"Environment {asked.env}: account {place.id}, region {place.region}; {extent}.")
        sys.exit(0 if smoke(place, writes=asked.write) else 1)
    except (Failure, BotoCoreError, ClientError) as error:
        sys.exit(f"Nothing was checked. {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
