"""The stand-in for CodeCommit: events of pushes, paging, error codes and permissions."""

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.accounts import PRODUCTION, REPOSITORY, allow, code
from tools.git import DEVELOPER
from tools.layout import REGION


def test_a_push_is_seen_by_api_and_rule(cloud, tmp_path):
    shop = cloud.repository("shop", tmp_path)
    url, queue = cloud.queue(REPOSITORY, "pushes")
    events = cloud.client("events")
    events.put_rule(Name="pushes", EventPattern='{"source":["aws.codecommit"],"account":["111111111111"]}')
    events.put_targets(Rule="pushes", Targets=[{"Id": "queue", "Arn": queue}])
    codecommit = cloud.client("codecommit")
    with pytest.raises(ClientError) as caught:
        codecommit.get_branch(repositoryName="shop", branchName="main")
    assert code(caught) == "BranchDoesNotExistException"

    first = shop.commit({"api/app.py": "1", "README.md": "read"})
    shop.push("main")
    (created,) = cloud.messages(REPOSITORY, url)
    identity = codecommit.get_repository(repositoryName="shop")["repositoryMetadata"]["repositoryId"]
    assert created["source"] == "aws.codecommit"
    assert created["detail-type"] == "CodeCommit Repository State Change"
    assert created["account"] == REPOSITORY and created["region"] == REGION
    assert created["resources"] == [f"arn:aws:codecommit:{REGION}:{REPOSITORY}:shop"]
    assert created["detail"] == {
        "event": "referenceCreated",
        "repositoryName": "shop",
        "repositoryId": identity,
        "referenceType": "branch",
        "referenceName": "main",
        "referenceFullName": "refs/heads/main",
        "commitId": first,
        "callerUserArn": f"arn:aws:iam::{REPOSITORY}:user/developer",
    }

    second = shop.commit({"api/app.py": "2", "README.md": None, "new.py": "3"}, "Second")
    shop.push("main")
    (updated,) = cloud.messages(REPOSITORY, url)
    assert (updated["detail"]["event"], updated["detail"]["oldCommitId"], updated["detail"]["commitId"]) == (
        "referenceUpdated",
        first,
        second,
    )
    assert codecommit.get_branch(repositoryName="shop", branchName="main")["branch"]["commitId"] == second

    shop.git("tag", "-am", "One", "v1")
    shop.git("branch", "release/1")
    shop.push("v1", "release/1")
    both = {event["detail"]["referenceFullName"]: event["detail"] for event in cloud.messages(REPOSITORY, url, 2)}
    assert both["refs/tags/v1"]["referenceType"] == "tag" and both["refs/tags/v1"]["commitId"] == second
    assert both["refs/heads/release/1"]["referenceName"] == "release/1"
    assert codecommit.list_branches(repositoryName="shop")["branches"] == ["main", "release/1"]

    shop.push("--delete", "release/1")
    (deleted,) = cloud.messages(REPOSITORY, url)
    assert deleted["detail"]["event"] == "referenceDeleted" and deleted["detail"]["oldCommitId"] == second
    assert "commitId" not in deleted["detail"]

    commit = codecommit.get_commit(repositoryName="shop", commitId=second)["commit"]
    assert commit["parents"] == [first] and commit["message"] == "Second\n" and commit["author"]["name"] == DEVELOPER


def test_a_folder_is_read_at_a_branch_a_commit_or_a_tag(cloud, tmp_path):
    tagged = cloud.repository("tagged", tmp_path)
    first = tagged.commit({"api/app.py": "1", "README.md": "read"})
    tagged.git("tag", "light")
    tagged.git("tag", "-am", "One", "annotated")
    second = tagged.commit({"api/app.py": None})
    tagged.push("main", "light", "annotated")
    codecommit = cloud.client("codecommit")

    def folder(**request):
        return codecommit.get_folder(**{"repositoryName": "tagged", "folderPath": "/"} | request)

    for specifier in ("refs/tags/light", "refs/tags/annotated", "annotated", first):
        assert folder(commitSpecifier=specifier)["commitId"] == first
    for more in ({}, {"commitSpecifier": "main"}, {"commitSpecifier": "refs/heads/main"}):
        assert folder(**more)["commitId"] == second
    found = folder(commitSpecifier=first)
    assert [one["absolutePath"] for one in found["subFolders"]] == ["api"]
    assert [(one["absolutePath"], one["fileMode"]) for one in found["files"]] == [("README.md", "NORMAL")]
    below = folder(commitSpecifier="light", folderPath="/api")["files"]
    assert [(one["absolutePath"], one["relativePath"]) for one in below] == [("api/app.py", "app.py")]
    for request, expected in (
        ({"commitSpecifier": "refs/tags/none"}, "CommitDoesNotExistException"),
        ({"commitSpecifier": "0" * 40}, "CommitDoesNotExistException"),
        ({"folderPath": "/none"}, "FolderDoesNotExistException"),
        ({"folderPath": "/README.md"}, "FolderDoesNotExistException"),
        ({"repositoryName": "none"}, "RepositoryDoesNotExistException"),
    ):
        with pytest.raises(ClientError) as caught:
            folder(**request)
        assert code(caught) == expected


def test_differences_are_paged_and_typed(cloud, tmp_path):
    paged = cloud.repository("paged", tmp_path)
    first = paged.commit({"a": "1", "b": "1", "日本語.md": "1"})
    second = paged.commit({"a": "2", "b": None, "c": "1"})
    paged.push("main")
    codecommit = cloud.client("codecommit")
    pages = codecommit.get_paginator("get_differences").paginate(
        repositoryName="paged",
        beforeCommitSpecifier=first,
        afterCommitSpecifier="main",
        PaginationConfig={"PageSize": 1},
    )
    found = [page["differences"] for page in pages]
    assert [len(page) for page in found] == [1, 1, 1]
    assert [
        (one["changeType"], one.get("beforeBlob", {}).get("path"), one.get("afterBlob", {}).get("path"))
        for page in found
        for one in page
    ] == [("M", "a", "a"), ("D", "b", None), ("A", None, "c")]
    whole = codecommit.get_differences(repositoryName="paged", afterCommitSpecifier=first)["differences"]
    assert [one["afterBlob"]["path"] for one in whole] == ["a", "b", "日本語.md"]
    for specifier in ("0" * 40, "nowhere"):
        with pytest.raises(ClientError) as caught:
            codecommit.get_differences(
                repositoryName="paged", beforeCommitSpecifier=specifier, afterCommitSpecifier=second
            )
        assert code(caught) == "CommitDoesNotExistException"


def test_errors_have_codecommits_codes(cloud):
    codecommit = cloud.client("codecommit")
    codecommit.create_repository(repositoryName="empty")
    for call, expected in (
        (lambda: codecommit.create_repository(repositoryName="empty"), "RepositoryNameExistsException"),
        (lambda: codecommit.get_repository(repositoryName="none"), "RepositoryDoesNotExistException"),
        (lambda: codecommit.get_repository(repositoryName="../up"), "InvalidRepositoryNameException"),
        (lambda: codecommit.get_branch(repositoryName="empty", branchName="a..b"), "InvalidBranchNameException"),
        (lambda: codecommit.get_commit(repositoryName="empty", commitId="0" * 40), "CommitIdDoesNotExistException"),
        (
            lambda: cloud.client("codecommit", PRODUCTION).get_repository(repositoryName="empty"),
            "RepositoryDoesNotExistException",
        ),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code(caught) == expected
    assert "empty" in [one["repositoryName"] for one in codecommit.list_repositories()["repositories"]]
    codecommit.delete_repository(repositoryName="empty")
    with pytest.raises(ClientError):
        codecommit.get_repository(repositoryName="empty")


def test_iam_limits_a_reader_to_its_repository(cloud):
    codecommit = cloud.client("codecommit")
    codecommit.create_repository(repositoryName="mine")
    codecommit.create_repository(repositoryName="other")
    reader = cloud.client(
        "codecommit",
        credentials=cloud.user(
            REPOSITORY, "reader", [allow("codecommit:GetRepository", f"arn:aws:codecommit:{REGION}:{REPOSITORY}:mine")]
        ),
    )
    assert reader.get_repository(repositoryName="mine")["repositoryMetadata"]["accountId"] == REPOSITORY
    with pytest.raises(ClientError) as caught:
        reader.get_repository(repositoryName="other")
    assert code(caught) == "AccessDeniedException"
    forged = cloud.client(
        "codecommit", credentials={**cloud.administrators[REPOSITORY], "aws_secret_access_key": "wrong"}
    )
    with pytest.raises(ClientError) as caught:
        forged.list_repositories()
    assert "Signature" in code(caught)
