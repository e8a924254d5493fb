"""`make demo` does the whole job once, as a timeline. Each line is printed after the accounts have shown its fact."""

import json
import time
from datetime import UTC, datetime

from tools.browser import take_picture
from tools.console import Waiting, print_table
from tools.failure import Failure
from tools.git import Clone
from tools.layout import ACCOUNTS, LOCAL, OUTSIDE_ACCOUNT, PERSON, PIPELINE, REPOSITORY, ROOT, TEST_PERSON
from tools.local_stack import doors, image_route, images, job, train
from tools.local_stack.job import PIPELINE_ACCOUNTS
from tools.local_stack.observed import decisions, error_code, execution_of, executions, grants, timed_decisions
from tools.local_stack.stack import Stack, temporary_stack

GRANT_MINUTES = 1
# The picture of the board, while a train bakes and a person has access.
BOARD = LOCAL / "board.png"
DENIED = ("AccessDenied", "AccessDeniedException")


def say(account: str, what: str, outcome: str) -> None:
    """Prints one line of the timeline."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {account:<12}{what:<68}  {outcome}", flush=True)


def head(text: str) -> None:
    """Prints the title of a part."""
    print(f"\n{text}", flush=True)


def must(holds: bool, otherwise: str) -> None:
    """Ends the demo if the accounts are not in the expected state."""
    if not holds:
        raise Failure(f"The demo failed: {otherwise}")


def demo() -> None:
    """Runs `make demo`."""
    with temporary_stack(LOCAL / "demo", release=False) as stack:
        accounts = ", ".join(f"{name}: {number}" for name, number in ACCOUNTS.items())
        print(f"\nTime (UTC), account, what, outcome. {accounts}")
        clone, commit = push_and_deploy(stack)
        repeats_and_filters(stack, clone, commit)
        artifacts(stack)
        bad, good = train_with_a_bad_commit(stack, clone)
        access(stack)
        approval(stack)
        arrival(stack, bad, good)
        image(stack, clone)
        ledgers(stack)
        print("\nEvery line above was checked in the accounts.")
        if BOARD.is_file():
            print(f"A picture of the board, while the train baked and {PERSON} had access: {BOARD.relative_to(ROOT)}")


def push_and_deploy(stack: Stack) -> tuple[Clone, str]:
    """Shows that a push starts the pipelines of two other accounts."""
    head("1  A push")
    clone = job.clone(stack, stack.places.folder / REPOSITORY)
    say("repository", f"git clone {REPOSITORY}.git", "empty")
    commit = clone.commit(job.application(), "Sell apples and melons", branch="main")
    clone.push("main")
    say("repository", "git push origin main", f"at {commit[:8]}")

    head("2  What it starts in two other accounts")
    relayed = job.wait_for_decision(stack, "repository", "event-relay", 0, "relayed")
    must(relayed["commit"] == commit, f"event-relay relayed {relayed['commit']} instead of {commit}")
    say("repository", f"event-relay: {relayed['reason']}", relayed["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        started = job.wait_for_decision(stack, profile, "pipeline-starter", 0, "started")
        execution = started["execution"]
        say(
            profile,
            f"pipeline-starter: {started['reason'].replace(execution, execution[:8] + '…')}",
            started["outcome"],
        )
    for profile in PIPELINE_ACCOUNTS:
        ended = job.wait_for_deployment(stack, profile, commit)
        say(profile, f"pipeline {REPOSITORY} at {commit[:8]}", ended["status"])
        prices = job.invoke(stack, profile, job.APPLICATION_FUNCTION, {})
        must(prices == {"apple": 120, "melon": 980}, f"the application in {profile} answers {prices}")
        say(profile, f"stack {REPOSITORY}: its function answers {prices}", "deployed")
    return clone, commit


def repeats_and_filters(stack: Stack, clone: Clone, commit: str) -> None:
    """Shows that repeated events, another branch and a change of the README start nothing."""
    head("3  What starts nothing")
    ran = {profile: len(executions(stack, profile)) for profile in PIPELINE_ACCOUNTS}

    before = len(decisions(stack, "repository", "event-relay"))
    job.repeat_push_event(stack, job.NO_COMMIT, commit, "refs/heads/main")
    again = job.wait_for_decision(stack, "repository", "event-relay", before, "duplicate")
    say("repository", "the same event again", again["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        before = len(decisions(stack, profile, "pipeline-starter"))
        job.repeat_relayed_event(stack, profile, commit)
        again = job.wait_for_decision(stack, profile, "pipeline-starter", before, "duplicate")
        say(profile, "the relayed event again", again["outcome"])

    before = len(decisions(stack, "repository", "event-relay"))
    clone.commit({"api/pears.txt": "pears\n"}, "Try pears", branch="try-pears")
    clone.push("try-pears")
    filtered = job.wait_for_decision(stack, "repository", "event-relay", before, "filtered")
    say("repository", f"git push origin try-pears: {filtered['reason']}", filtered["outcome"])

    before = len(decisions(stack, "repository", "event-relay"))
    clone.git("checkout", "--quiet", "main")
    clone.commit(job.README_CHANGE, "Say when the shop is open")
    clone.push("main")
    filtered = job.wait_for_decision(stack, "repository", "event-relay", before, "filtered")
    say("repository", f"git push of README.md: {filtered['reason']}", filtered["outcome"])

    for profile, count in ran.items():
        must(len(executions(stack, profile)) == count, f"a pipeline started in {profile}, but none should")
        say(profile, f"pipeline {REPOSITORY} ran as often as before", f"{count}×")


def artifacts(stack: Stack) -> None:
    """Shows that artifacts under the wrong key are denied or repaired."""
    head("4  Artifacts under the wrong key")
    code = error_code(lambda: job.put_without_key(stack, "production", "shop/Source/wrong", b"x"))
    must(code == "AccessDenied", f"production's bucket answered {code or 'yes'} to an artifact without its key")
    say("production", "put an artifact under S3's own key (ArtifactWrites=enforce)", str(code))
    body = b"an artifact \x00\xff of bytes"
    job.put_without_key(stack, "test", "shop/Source/wrong", body)
    say("test", "put the same (ArtifactWrites=repair)", "accepted")
    metadata, content = job.wait_for_repair(stack, "test", "shop/Source/wrong")
    must(content == body, "the artifact's content has changed")
    key = metadata["SSEKMSKeyId"].rpartition("/")[2]
    say("test", f"artifact-checker: under key {key[:8]}… now, every byte as before", "repaired")


def train_with_a_bad_commit(stack: Stack, clone: Clone) -> tuple[str, str]:
    """Shows that a commit which sets off an alarm in the one-box is rolled back, and never gets to production.

    Returns this commit and the next one, which bakes in the one-box.
    """
    head("5  A train: the one-box first, then production")
    train.configure(stack, train.route())
    for profile in PIPELINE_ACCOUNTS:
        train.set_alarms(stack, profile, "OK")
    say("repository", "the route gets two waves: test is the one-box, then production", "configured")

    bad = clone.commit(train.application(train.BAD_LINE), "Sell pears")
    clone.push("main")
    entered = job.wait_for_decision(stack, "repository", "event-relay", 0, "entered")
    must(entered["commit"] == bad, f"{entered['commit']} entered the one-box instead of {bad}")
    say("repository", f"git push origin main at {bad[:8]}: {entered['reason']}", entered["outcome"])
    job.wait_for_deployment(stack, "test", bad)
    failed = job.failure_of(stack, "test", job.APPLICATION_FUNCTION, {})["errorMessage"]
    say("test", f"pipeline {REPOSITORY} at {bad[:8]}, but its function fails: {failed}", "deployed")
    train.set_alarms(stack, "test", "ALARM", train.ALARMS[:1])
    unhealthy = train.wait_for_state(stack, "test", "unhealthy", bad, job.EVENT_SECONDS)
    say("test", f"pipeline-starter: {train.ALARMS[0]} rings in the bake", unhealthy["outcome"])
    back = train.wait_for_state(stack, "test", "rolled-back", bad, job.PIPELINE_SECONDS)
    prices = job.invoke(stack, "test", job.APPLICATION_FUNCTION, {})
    must(prices == {"apple": 120, "melon": 980}, f"after the rollback the application answers {prices}")
    say("test", f"went back by itself: its function answers {prices}", back["outcome"])
    train.set_alarms(stack, "test", "OK", train.ALARMS[:1])
    condemned = job.wait_for_decision(stack, "repository", "event-relay", 0, "condemned")
    must(condemned["commit"] == bad, f"{condemned['commit']} was condemned instead of {bad}")
    say("repository", f"event-relay: {bad[:8]} enters no further wave", condemned["outcome"])
    must(execution_of(stack, "production", bad) is None, "production ran the commit that failed in the one-box")
    say("production", f"pipeline {REPOSITORY} at {bad[:8]}", "never ran")

    good = clone.commit(train.application(train.GOOD_LINE) | {"api/pears.txt": "later\n"}, "Sell no pears yet")
    clone.push("main")
    job.wait_for_deployment(stack, "test", good)
    say("test", f"git push origin main at {good[:8]}: the next commit bakes in the one-box", "baking")
    return bad, good


def arrival(stack: Stack, bad: str, good: str) -> None:
    """Shows that the next commit gets to production after its bake."""
    head("8  The train arrives")
    healthy = train.wait_for_state(stack, "test", "healthy", good, 2 * job.EVENT_SECONDS)
    say("test", f"pipeline-starter: {healthy['reason']}", healthy["outcome"])
    ended = job.wait_for_deployment(stack, "production", good)
    say("production", f"pipeline {REPOSITORY} at {good[:8]}", ended["status"])
    must(execution_of(stack, "production", bad) is None, "production ran the commit that failed in the one-box")
    print(f"\n{train.ask(stack, action='train')}")


def access(stack: Stack) -> None:
    """Shows that a person gets access for a minute, and that the access ends by itself."""
    head("6  A person, in and out again")
    code = error_code(lambda: job.list_functions_as_person(stack))
    must(code in DENIED, f"{PERSON} got the answer {code or 'yes'} before access was granted")
    say("production", f"{PERSON} lists functions", "denied")
    answer = job.invoke(stack, "production", "temp-access", {"user": PERSON, "minutes": GRANT_MINUTES})
    end = job.end_of_grant(answer)
    say(
        "production",
        f'invoke temp-access {{"user":"{PERSON}","minutes":{GRANT_MINUTES}}}',
        answer.split("\n")[0][:40],
    )
    functions = job.list_functions_as_person(stack)
    must(bool(functions), "no functions were listed")
    say("production", f"{PERSON} lists functions", f"{len(functions)} of them")
    iam = stack.client("production", "iam")
    (name,) = iam.list_user_policies(UserName=PERSON)["PolicyNames"]
    granted = iam.get_user_policy(UserName=PERSON, PolicyName=name)["PolicyDocument"]
    before = len(decisions(stack, "production", "temp-access"))
    take_picture_of_board(stack)

    with Waiting(f"Waiting for {end:%H:%M:%S}, when access ends"):
        while datetime.now(UTC) <= end:
            time.sleep(0.1)
    code = error_code(lambda: job.list_functions_as_person(stack))
    must(code in DENIED, f"{PERSON} got the answer {code or 'yes'} after the end")
    say("production", f"{PERSON} lists functions after {end:%H:%M:%S}", "denied")
    left = iam.get_user_policy(UserName=PERSON, PolicyName=name)["PolicyDocument"]
    must(left == granted, "the policy was changed meanwhile")
    must(len(decisions(stack, "production", "temp-access")) == before, "temp-access ran meanwhile")
    say("production", f"policy {name} is still attached: its own dates end the access", "untouched")


def take_picture_of_board(stack: Stack) -> None:
    """Leaves a picture of the dashboards of all accounts, if the browser runs on this machine."""
    BOARD.unlink(missing_ok=True)
    try:
        with Waiting("Taking a picture of the board"):
            take_picture(stack.board, BOARD)
    except Failure as failure:
        print(f"There is no picture of the board. {failure}")


def approval(stack: Stack) -> None:
    """Shows that a person who asks for access to another account gets it only after another person has approved."""
    head("7  Asked by one person, approved by another, for another account")
    hana, taro = doors.HANA, doors.TARO
    request = {"account": doors.TARGET, "user": TEST_PERSON, "profile": doors.OPERATOR, "minutes": 5}
    answer = job.invoke(stack, hana, f"temp-access:{hana}", request)
    code = answer.split(" ")[1]
    say(hana, f"invoke temp-access:{hana} {json.dumps(request, separators=(',', ':'))}"[:66] + "…", f"pending, {code}")
    invoke = {"FunctionName": f"temp-access:{taro}", "Payload": json.dumps({"approve": code}).encode()}
    denied = error_code(lambda: stack.client(hana, "lambda").invoke(**invoke))
    must(denied in DENIED, f"{hana} got the answer {denied or 'yes'} at the door of {taro}")
    say(hana, f"invoke temp-access:{taro}, the door of somebody else", "denied by IAM")
    refused = job.failure_of(stack, hana, f"temp-access:{hana}", {"account": doors.TARGET, "approve": code})
    must(refused["errorType"] == "Refused", f"{hana} approved her own request: {refused}")
    say(hana, f'invoke temp-access:{hana} {{"approve":"{code}"}}', "refused")
    answer = job.invoke(stack, taro, f"temp-access:{taro}", {"account": doors.TARGET, "approve": code})
    job.end_of_grant(answer)
    say(
        taro, f'invoke temp-access:{taro} {{"account":"{doors.TARGET}","approve":"{code}"}}', answer.split("\n")[0][:40]
    )
    functions = stack.client(TEST_PERSON, "lambda").list_functions()["Functions"]
    must(bool(functions), "no functions were listed")
    say(doors.TARGET, f"{TEST_PERSON} lists functions", f"{len(functions)} of them")


def image(stack: Stack, clone: Clone) -> None:
    """Shows that both accounts deploy an image by its digest, and that an account outside the unit may not pull it."""
    head("9  An image, beside the code")
    image_route.configure(stack)
    say("repository", "the pipelines get an image as their second source", "configured")
    before = {profile: len(decisions(stack, profile, "pipeline-starter")) for profile in PIPELINE_ACCOUNTS}
    commit = clone.commit(image_route.application(), "Show the image")
    clone.push("main")
    for profile in PIPELINE_ACCOUNTS:
        waiting = job.wait_for_decision(stack, profile, "pipeline-starter", before[profile], "waiting")
        say(profile, f"git push origin main at {commit[:8]}: {waiting['reason']}", waiting["outcome"])

    before = {"repository": len(decisions(stack, "repository", "event-relay"))}
    digest = image_route.publish(stack, images.image("the first"), "v1")
    relayed = job.wait_for_decision(stack, "repository", "event-relay", before["repository"], "relayed")
    must(relayed["digest"] == digest, f"event-relay relayed {relayed.get('digest')} instead of {digest}")
    say("repository", f"push of {REPOSITORY}:v1 at {digest[7:19]}: {relayed['reason']}", relayed["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        ended = image_route.wait_for_pins(stack, profile, commit, digest)
        must(ended["status"] == "Succeeded", f"pipeline {PIPELINE} in {profile} ended as {ended['status']}")
        image_route.wait_for_image(stack, profile, digest)
        say(profile, f"pipeline {PIPELINE} at {commit[:8]} with …/{REPOSITORY}@sha256:{digest[7:19]}…", ended["status"])
        must(bool(image_route.pull(stack, profile, digest)["images"]), f"{profile} may not pull the image")
    code = error_code(lambda: image_route.pull(stack, "outside", digest))
    must(code in DENIED, f"an account outside the unit got the answer {code or 'yes'} to its pull")
    say("outside", f"pull of the image from {OUTSIDE_ACCOUNT}, an account outside the unit", "denied")


def ledgers(stack: Stack) -> None:
    """Prints the ledger of each account."""
    head("10  The ledgers")
    for profile, account in ACCOUNTS.items():
        print(f"\n{profile} ({account})")
        rows = []
        for function in ("event-relay", "pipeline-starter", "artifact-checker", "temp-access"):
            for when, decision in timed_decisions(stack, profile, function):
                rows.append((when[11:19], function, decision["outcome"], decision["reason"]))
        rows += [("", "grant", grant["sk"], "") for grant in grants(stack, profile)]
        print_table(("time", "function", "outcome", "reason"), rows)
