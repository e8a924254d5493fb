"""`make demo`: the whole job once, as a timeline; every line was looked up in the accounts before it is printed."""

import time
from datetime import UTC, datetime

from . import job
from .console import Waiting, table
from .job import PIPELINE_ACCOUNTS
from .layout import ACCOUNTS, LOCAL, PERSON, REPOSITORY
from .observed import decisions, executions, grants, refused
from .processes import Failure
from .stack import passing

GRANT_MINUTES = 1


def say(account, what, outcome):
    """One line of the timeline."""
    print(f"{datetime.now(UTC):%H:%M:%S}  {account:<12}{what:<68}  {outcome}", flush=True)


def head(text):
    print(f"\n{text}", flush=True)


def must(true, what):
    """Ends the demo where the accounts don't hold what they should."""
    if not true:
        raise Failure(f"The demo failed: {what}")


def demo():
    with passing(LOCAL / "demo") as stack:
        print("\nTime (UTC), account, what, outcome. " + ", ".join(f"{name}: {number}" for name, number in ACCOUNTS.items()))
        clone, commit = push_and_deploy(stack)
        no_change(stack, clone, commit)
        artifacts(stack)
        person(stack)
        ledgers(stack)
        print("\nAll of it was so.")


def push_and_deploy(stack):
    head("1  A push")
    clone = job.Clone(stack, stack.places.folder / REPOSITORY)
    say("repository", f"git clone {REPOSITORY}.git", "empty")
    commit = clone.commit("Sell apples and melons", job.application())
    clone.push()
    say("repository", "git push origin main", f"at {commit[:8]}")

    head("2  What it starts in two other accounts")
    relayed = job.decision_after(stack, "repository", "event-relay", 0, "relayed")
    must(relayed["commit"] == commit, f"event-relay relayed {relayed['commit']} instead of {commit}")
    say("repository", f"event-relay: {relayed['reason']}", relayed["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        started = job.decision_after(stack, profile, "pipeline-starter", 0, "started")
        say(profile, f"pipeline-starter: {started['reason'].replace(started['execution'], started['execution'][:8] + '…')}", started["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        execution = job.deployed(stack, profile, commit)
        say(profile, f"pipeline {REPOSITORY} at {commit[:8]}", execution["status"])
        prices = job.invoke(stack, profile, job.APPLICATION_FUNCTION, {})
        must(prices == {"apple": 120, "melon": 980}, f"the application in {profile} answers {prices}")
        say(profile, f"stack {REPOSITORY}: its function answers {prices}", "deployed")
    return clone, commit


def no_change(stack, clone, commit):
    head("3  What starts nothing")
    ran = {profile: len(executions(stack, profile)) for profile in PIPELINE_ACCOUNTS}

    before = len(job.decided(stack, "repository", "event-relay"))
    job.told_again(stack, job.NO_COMMIT, commit, "refs/heads/main")
    again = job.decision_after(stack, "repository", "event-relay", before, "duplicate")
    say("repository", "the same event once more", again["outcome"])
    for profile in PIPELINE_ACCOUNTS:
        before = len(job.decided(stack, profile, "pipeline-starter"))
        job.relayed_again(stack, profile, commit)
        again = job.decision_after(stack, profile, "pipeline-starter", before, "duplicate")
        say(profile, "the relayed event once more", again["outcome"])

    before = len(job.decided(stack, "repository", "event-relay"))
    clone.commit("Try pears", {"api/pears.txt": "pears\n"}, branch="try-pears")
    clone.push("try-pears")
    passed = job.decision_after(stack, "repository", "event-relay", before, "filtered")
    say("repository", f"git push origin try-pears: {passed['reason']}", passed["outcome"])

    before = len(job.decided(stack, "repository", "event-relay"))
    job.git("-C", clone.folder, "checkout", "--quiet", "main")
    clone.commit("Say when the shop is open", {"README.md": "# Shop\nOpen from nine to five.\n"})
    clone.push()
    passed = job.decision_after(stack, "repository", "event-relay", before, "filtered")
    say("repository", f"git push of README.md: {passed['reason']}", passed["outcome"])

    for profile, count in ran.items():
        must(len(executions(stack, profile)) == count, f"a pipeline started in {profile} that should not have")
        say(profile, f"pipeline {REPOSITORY} ran as often as before", f"{count}×")


def artifacts(stack):
    head("4  Artifacts under the wrong key")
    code = refused(lambda: job.put_without_key(stack, "production", "shop/Source/wrong", b"x"))
    must(code == "AccessDenied", f"production's bucket answered {code or 'yes'} to an artifact without its key")
    say("production", "put an artifact under S3's own key (ArtifactWrites=enforce)", code)
    body = b"an artifact \x00\xff of bytes"
    job.put_without_key(stack, "test", "shop/Source/wrong", body)
    say("test", "put the same (ArtifactWrites=repair)", "let in")
    now, content = job.mended(stack, "test", "shop/Source/wrong")
    must(content == body, "the artifact's content is not what it was")
    say("test", f"artifact-checker: under key {now['SSEKMSKeyId'].rpartition('/')[2][:8]}… now, every byte as before", "repaired")


def person(stack):
    head("5  A person, in and out again")
    code = refused(lambda: job.person_acts(stack))
    must(code in ("AccessDenied", "AccessDeniedException"), f"{PERSON} was answered {code or 'yes'} before being let in")
    say("production", f"{PERSON} lists functions", "denied")
    answer = job.invoke(stack, "production", "temp-access", {"user": PERSON, "minutes": GRANT_MINUTES})
    must(answer.startswith("End time is "), f"temp-access answered {answer}")
    end = datetime.fromisoformat(answer.removeprefix("End time is ").split()[0].rstrip(".,;"))
    say("production", f'invoke temp-access {{"user":"{PERSON}","minutes":{GRANT_MINUTES}}}', answer.split("\n")[0][:40])
    functions = job.person_acts(stack)
    must(functions, "no functions were listed")
    say("production", f"{PERSON} lists functions", f"{len(functions)} of them")
    iam = stack.client("production", "iam")
    (name,) = iam.list_user_policies(UserName=PERSON)["PolicyNames"]
    granted = iam.get_user_policy(UserName=PERSON, PolicyName=name)["PolicyDocument"]
    marker = len(decisions(stack, "production", "temp-access"))

    with Waiting(f"Waiting for {end:%H:%M:%S}, when access ends"):
        while datetime.now(UTC) <= end:
            time.sleep(0.1)
    code = refused(lambda: job.person_acts(stack))
    must(code in ("AccessDenied", "AccessDeniedException"), f"{PERSON} was answered {code or 'yes'} after the end")
    say("production", f"{PERSON} lists functions after {end:%H:%M:%S}", "denied")
    left = iam.get_user_policy(UserName=PERSON, PolicyName=name)["PolicyDocument"]
    must(left == granted, "the policy was changed meanwhile")
    must(len(decisions(stack, "production", "temp-access")) == marker, "temp-access ran meanwhile")
    say("production", f"policy {name} is still attached: its own dates end it", "untouched")


def ledgers(stack):
    head("6  The ledgers")
    for profile in ACCOUNTS:
        print(f"\n{profile} ({ACCOUNTS[profile]})")
        rows = []
        for function in ("event-relay", "pipeline-starter", "artifact-checker", "temp-access"):
            for when, decision in decisions(stack, profile, function):
                rows.append((when[11:19], function, decision["outcome"], decision["reason"]))
        for grant in grants(stack, profile):
            rows.append(("", "grant", grant["sk"], ""))
        table(("time", "function", "outcome", "reason"), rows)
