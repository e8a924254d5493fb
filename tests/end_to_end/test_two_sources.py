"""Pipelines with two sources, code and an image: what people push, and what both accounts then run, by digest."""

import pytest

from tools.layout import OUTSIDE_ACCOUNT, PIPELINE, REPOSITORY, SOURCE_ACTION
from tools.local_stack import image_route, images, job, train
from tools.local_stack.observed import decisions, error_code, executions
from tools.local_stack.stack import create_pipelines, eventually

RULE = "sekisho-image-change"
# A template that cannot be read, so that the execution fails in its deploy action.
BROKEN = {train.TEMPLATE: "Resources: [\n"}


@pytest.fixture(scope="module", autouse=True)
def two_sources(stack):
    """Gives the pipelines and routes their second source, and takes it away again."""
    before = {
        (profile, function): stack.client(profile, "lambda").get_function_configuration(FunctionName=function)
        for profile, function in train.FUNCTIONS.items()
    }
    image_route.configure(stack)
    yield
    create_pipelines(stack)
    for (profile, function), found in before.items():
        variables = found["Environment"]["Variables"]
        client = stack.client(profile, "lambda")
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})


@pytest.fixture(scope="module")
def running(stack, clone):
    """The commit and the digest that both accounts run: the code waits until the first image arrives."""
    before = {profile: len(decisions(stack, profile, "pipeline-starter")) for profile in job.PIPELINE_ACCOUNTS}
    clone.git("checkout", "--quiet", "-B", "main")
    commit = clone.commit(image_route.application(), "Show the image")
    clone.push("main")
    for profile in job.PIPELINE_ACCOUNTS:
        job.wait_for_decision(stack, profile, "pipeline-starter", before[profile], "waiting")
        assert commit not in str(executions(stack, profile))
    digest = image_route.publish(stack, images.image("the first"), "v1")
    for profile in job.PIPELINE_ACCOUNTS:
        assert image_route.wait_for_pins(stack, profile, commit, digest)["status"] == "Succeeded"
    return commit, digest


def test_both_accounts_deploy_the_image_by_its_digest(stack, running):
    for profile in job.PIPELINE_ACCOUNTS:
        assert image_route.wait_for_image(stack, profile, running[1])


def test_only_the_accounts_of_the_unit_may_pull(stack, running):
    for profile in job.PIPELINE_ACCOUNTS:
        assert image_route.pull(stack, profile, running[1])["images"]
    assert error_code(lambda: image_route.pull(stack, "outside", running[1])) == "AccessDeniedException"
    policy = stack.client("repository", "ecr").get_repository_policy(repositoryName=REPOSITORY)
    assert OUTSIDE_ACCOUNT not in policy["policyText"]


def test_an_execution_that_no_order_started_deploys_nothing(stack, running):
    codepipeline = stack.client("test", "codepipeline")
    execution = codepipeline.start_pipeline_execution(name=PIPELINE)["pipelineExecutionId"]

    def ended():
        found = codepipeline.get_pipeline_execution(pipelineName=PIPELINE, pipelineExecutionId=execution)
        status = found["pipelineExecution"]["status"]
        return status if status != "InProgress" else None

    assert eventually("the execution ends", ended, job.PIPELINE_SECONDS) == "Failed"
    assert image_route.wait_for_image(stack, "test", running[1])


def test_a_signature_starts_nothing_and_an_index_is_deployed(stack, running):
    ran = len(executions(stack, "test"))
    before = len(decisions(stack, "repository", "event-relay"))
    first = images.image("the second, for one platform")
    index = images.index(first)
    image_route.publish(stack, first, None)
    image_route.publish(stack, images.signature(first), "v2-signature")
    job.wait_for_decision(stack, "repository", "event-relay", before, "ignored")
    digest = image_route.publish(stack, index, "v2")
    for profile in job.PIPELINE_ACCOUNTS:
        image_route.wait_for_pins(stack, profile, running[0], digest)
        assert image_route.wait_for_image(stack, profile, digest)
    assert len(executions(stack, "test")) == ran + 1


def test_a_tag_whose_event_was_lost_is_deployed_by_the_next_reconcile(stack, running):
    # The first look at the repository only records the tags that it finds.
    job.schedule(stack, "repository", "event-relay")
    events = stack.client("repository", "events")
    events.disable_rule(Name=RULE)
    digest = image_route.publish(stack, images.image("the third"), "v3")
    events.enable_rule(Name=RULE)
    assert digest not in str(decisions(stack, "repository", "event-relay"))
    job.schedule(stack, "repository", "event-relay")
    for profile in job.PIPELINE_ACCOUNTS:
        image_route.wait_for_pins(stack, profile, running[0], digest)


def test_code_that_failed_does_not_ride_along_with_the_next_image(stack, clone, running):
    bad = clone.commit(image_route.application() | BROKEN, "Break the template")
    clone.push("main")

    def failed():
        of_code = [one for one in executions(stack, "test") if image_route.pins(one).get(SOURCE_ACTION) == bad]
        return [one for one in of_code if one["status"] == "Failed"]

    eventually("the broken template fails", failed, job.PIPELINE_SECONDS)
    digest = image_route.publish(stack, images.image("the fourth"), "v4")
    for profile in job.PIPELINE_ACCOUNTS:
        assert image_route.wait_for_pins(stack, profile, running[0], digest)["status"] == "Succeeded"
        assert len([one for one in executions(stack, profile) if bad in str(image_route.pins(one))]) == 1
    where = job.invoke(stack, "repository", "sekisho-event-relay", {"action": "where", "route": "image"})
    assert digest[7:19] in where
