"""A stand-in for CodeCommit in one account and region. Its repositories are git folders in `<data>/repositories`.

Developers push with git directly to that folder. The repository's post-receive hook notifies the local cloud, which
puts CodeCommit's event on the account's default bus. As on AWS, the event is best effort: while the local cloud is
down, a push succeeds without an event.
"""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import uuid

from ministack.core.responses import get_account_id, get_region
from ministack.services.cloudformation import provisioners

from local_cloud import buses
from local_cloud.services import Json, Operation, Refused, page, register

PAGE = 100
INVALID_TOKEN = "InvalidContinuationTokenException"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
NO_COMMIT = "0" * 40
COMMIT_ID = re.compile(r"[0-9a-f]{40}")
FILE_MODES = {"100644": "NORMAL", "100755": "EXECUTABLE", "120000": "SYMLINK"}
REPOSITORY_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)

# The hook inherits the environment of the person who pushes, but ignores that person's settings for Python and proxies.
HOOK = """import sys, urllib.request
url = "http://127.0.0.1:{port}/_local-cloud/push/{name}"
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(url, sys.stdin.buffer.read(), timeout=30)
except OSError as error:
    print(f"pushed, but the local cloud was not notified: {{error}}", file=sys.stderr)
"""


class _Place:
    """The folder of the repositories, their account and region, and the local cloud's port."""

    folder = pathlib.Path()
    account = region = ""
    port = 0


_place = _Place()


def install(folder: pathlib.Path, account: str, region: str, port: int) -> None:
    """Adds CodeCommit's API and its CloudFormation resource type. The hooks call the local cloud at `port`."""
    _place.folder, _place.account, _place.region, _place.port = folder, account, region, port
    for repository in folder.glob("*.git"):
        _write_hook(repository)
    register(
        "codecommit",
        "CodeCommit_20150413",
        {
            "CreateRepository": _create_repository,
            "GetRepository": _get_repository,
            "ListRepositories": _list_repositories,
            "DeleteRepository": _delete_repository,
            "UpdateRepositoryEncryptionKey": _update_encryption_key,
            "GetBranch": _get_branch,
            "ListBranches": _list_branches,
            "GetCommit": _get_commit,
            "GetDifferences": _get_differences,
            "GetFolder": _get_folder,
        },
        lambda request, region, account: (
            _arn(request["repositoryName"], region, account) if request.get("repositoryName") else "*"
        ),
    )
    provisioners._RESOURCE_HANDLERS["AWS::CodeCommit::Repository"] = {
        "create": lambda _logical, properties, _stack: _in_template(_create_repository, properties),
        # A template can update only the description and the tags. The local cloud stores neither, so nothing changes.
        "update": lambda _physical, _old, properties, _stack: _in_template(_get_repository, properties),
        "delete": lambda _physical, properties: _delete_repository({"repositoryName": properties["RepositoryName"]}),
    }


def path_of(name: str) -> pathlib.Path:
    """The folder of a repository."""
    return _place.folder / f"{name}.git"


def archive(name: str, commit: str) -> bytes:
    """The commit's files as a zip, which is the artifact of a source action."""
    return _run_git(name, "archive", "--format=zip", commit).stdout


def _pushed(name: str, body: bytes) -> tuple[int, str]:
    """Puts the events of a push on the bus. `body`, the hook's input, has a line `<old> <new> <ref>` for each ref."""
    for line in body.decode().splitlines():
        old, new, ref = line.split(" ", 2)
        kind = {"heads": "branch", "tags": "tag"}.get(ref.split("/")[1])
        if kind is None:
            continue
        detail = {
            "event": "referenceCreated"
            if old == NO_COMMIT
            else "referenceDeleted"
            if new == NO_COMMIT
            else "referenceUpdated",
            "repositoryName": name,
            "repositoryId": _repository_id(name),
            "referenceType": kind,
            "referenceName": ref.split("/", 2)[2],
            "referenceFullName": ref,
            # A push to a folder has no IAM identity, so the event names a user that does not exist.
            "callerUserArn": f"arn:aws:iam::{_place.account}:user/developer",
        }
        if new != NO_COMMIT:
            detail["commitId"] = (_git(name, "rev-parse", "--verify", f"{new}^{{commit}}") or new).strip()
        if old != NO_COMMIT:
            detail["oldCommitId"] = (_git(name, "rev-parse", "--verify", f"{old}^{{commit}}") or old).strip()
        buses.emit(
            _place.account,
            _place.region,
            "aws.codecommit",
            "CodeCommit Repository State Change",
            detail,
            [_arn(name, _place.region, _place.account)],
        )
    return 200, "done\n"


# The HTTP path on which the hooks notify the local cloud. No AWS client uses this path.
PATHS = {"push": _pushed}


def _write_hook(repository: pathlib.Path) -> None:
    hook = repository / "hooks" / "post-receive"
    program = HOOK.format(port=_place.port, name=repository.name.removesuffix(".git"))
    # The hook starts Python through a shell, because Python's path may contain spaces, which a #! line does not allow.
    hook.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -c {shlex.quote(program)}\n")
    hook.chmod(0o755)


def _create_repository(request: Json) -> Json:
    name = _name(request)
    if (get_account_id(), get_region()) != (_place.account, _place.region):
        raise Refused(
            "OperationNotAllowedException",
            f"the local cloud keeps repositories in account {_place.account}, region {_place.region} only",
        )
    if path_of(name).exists():
        raise Refused("RepositoryNameExistsException", f"Repository named {name} already exists")
    _run_git(name, "init", "--quiet", "--bare", "--initial-branch=main")
    # The person who pushes may have set core.hooksPath for all repositories. This setting lets our hook run anyway.
    _run_git(name, "config", "core.hooksPath", "hooks")
    (path_of(name) / "hooks").mkdir()
    _write_hook(path_of(name))
    if request.get("kmsKeyId"):
        _set_key(name, request["kmsKeyId"])
    return {"repositoryMetadata": _metadata(name)}


def _update_encryption_key(request: Json) -> Json:
    name = _existing(request)
    before = _key(name)
    _set_key(name, request["kmsKeyId"])
    return {"repositoryId": _repository_id(name), "kmsKeyId": _key(name), "originalKmsKeyId": before}


def _key(name: str) -> str:
    """The KMS key of a repository. The key is only recorded: no data is encrypted, and no key policy is checked."""
    return (_git(name, "config", "--get", "sekisho.kms-key-id") or "alias/aws/codecommit").strip()


def _set_key(name: str, key: str) -> None:
    _must_git(name, "config", "sekisho.kms-key-id", key)


def _get_repository(request: Json) -> Json:
    return {"repositoryMetadata": _metadata(_existing(request))}


def _list_repositories(request: Json) -> Json:
    here = (get_account_id(), get_region()) == (_place.account, _place.region)
    names = sorted(path.name.removesuffix(".git") for path in _place.folder.glob("*.git")) if here else []
    repositories = [{"repositoryName": name, "repositoryId": _repository_id(name)} for name in names]
    return page(repositories, "repositories", request, INVALID_TOKEN, size=PAGE, names=("nextToken", "maxResults"))


def _delete_repository(request: Json) -> Json:
    name = _name(request)
    # For a repository that does not exist, CodeCommit reports success without an id.
    if (get_account_id(), get_region()) != (_place.account, _place.region) or not path_of(name).exists():
        return {}
    shutil.rmtree(path_of(name))
    return {"repositoryId": _repository_id(name)}


def _get_branch(request: Json) -> Json:
    name = _existing(request)
    branch = request.get("branchName")
    if not branch:
        raise Refused("BranchNameRequiredException", "A branch name is required")
    if _git(name, "check-ref-format", f"refs/heads/{branch}") is None:
        raise Refused("InvalidBranchNameException", f"The branch name {branch} is not valid")
    commit = _git(name, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    if commit is None:
        raise Refused("BranchDoesNotExistException", f"Branch {branch} does not exist")
    return {"branch": {"branchName": branch, "commitId": commit.strip()}}


def _list_branches(request: Json) -> Json:
    listed = _must_git(_existing(request), "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    branches = listed.splitlines()
    return page(branches, "branches", request, INVALID_TOKEN, size=PAGE, names=("nextToken", "maxResults"))


def _get_commit(request: Json) -> Json:
    name, commit = _existing(request), request.get("commitId")
    if not commit:
        raise Refused("CommitIdRequiredException", "A commit ID is required")
    if not COMMIT_ID.fullmatch(commit):
        raise Refused("InvalidCommitIdException", f"The commit ID {commit} is not valid")
    fields = _git(
        name,
        "show",
        "--no-patch",
        "--date=raw",
        "--format=%T%x00%P%x00%an%x00%ae%x00%ad%x00%cn%x00%ce%x00%cd%x00%B",
        f"{commit}^{{commit}}",
    )
    if fields is None:
        raise Refused("CommitIdDoesNotExistException", f"Commit {commit} does not exist")
    tree, parents, an, ae, ad, cn, ce, cd, message = fields.split("\0", 8)
    return {
        "commit": {
            "commitId": commit,
            "treeId": tree,
            "parents": parents.split(),
            "message": message.removesuffix("\n"),
            "author": {"name": an, "email": ae, "date": ad},
            "committer": {"name": cn, "email": ce, "date": cd},
            "additionalData": "",
        }
    }


def _get_differences(request: Json) -> Json:
    name = _existing(request)
    if not request.get("afterCommitSpecifier"):
        raise Refused("CommitRequiredException", "A commit is required")
    after = _commit(name, request["afterCommitSpecifier"])
    before = _commit(name, request["beforeCommitSpecifier"]) if request.get("beforeCommitSpecifier") else EMPTY_TREE
    size = request.get("MaxResults", PAGE)
    if not 1 <= size <= 400:
        raise Refused("InvalidMaxResultsException", "MaxResults must be from 1 to 400")
    paths = [path for path in (request.get("beforePath"), request.get("afterPath")) if path]
    raw = _must_git(name, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", before, after, "--", *paths)
    fields = raw.split("\0")[:-1]
    differences = []
    for meta, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, old, new, kind = meta.removeprefix(":").split(" ")
        # git also reports T, a change of an object's type. CodeCommit knows only A, M and D, so a T becomes an M.
        difference: Json = {"changeType": kind if kind in "AD" else "M"}
        if kind != "A":
            difference["beforeBlob"] = {"blobId": old, "path": path, "mode": old_mode}
        if kind != "D":
            difference["afterBlob"] = {"blobId": new, "path": path, "mode": new_mode}
        differences.append(difference)
    return page(differences, "differences", request, INVALID_TOKEN, size=PAGE, names=("NextToken", "MaxResults"))


def _get_folder(request: Json) -> Json:
    """The entries of a folder at a commit. The commit may be named by a tag, also by an annotated one."""
    name = _existing(request)
    folder = request.get("folderPath")
    if not folder:
        raise Refused("PathRequiredException", "A folder path is required")
    # Without a specifier, CodeCommit takes the default branch.
    commit = _commit(name, request.get("commitSpecifier") or "HEAD")
    path = folder.strip("/")
    tree = _git(name, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}:{path}")
    listed = tree and _git(name, "ls-tree", "-z", tree.strip())
    if not tree or listed is None:
        raise Refused("FolderDoesNotExistException", f"Folder {folder} does not exist")
    answer: Json = {"commitId": commit, "folderPath": path, "treeId": tree.strip()}
    answer |= {kind: [] for kind in ("subFolders", "files", "symbolicLinks", "subModules")}
    for entry in listed.split("\0")[:-1]:
        about, relative = entry.split("\t", 1)
        mode, kind, identity = about.split(" ")
        paths = {"absolutePath": f"{path}/{relative}".lstrip("/"), "relativePath": relative}
        if kind == "tree":
            answer["subFolders"].append(paths | {"treeId": identity})
        elif kind == "commit":
            answer["subModules"].append(paths | {"commitId": identity})
        else:
            of_kind = "symbolicLinks" if mode == "120000" else "files"
            answer[of_kind].append(paths | {"blobId": identity, "fileMode": FILE_MODES[mode]})
    return answer


def _in_template(operation: Operation, properties: Json) -> tuple[str, dict]:
    try:
        made = operation({"repositoryName": properties["RepositoryName"]})["repositoryMetadata"]
    except Refused as error:
        raise ValueError(f"AWS::CodeCommit::Repository: {error.code}: {error}") from None
    return made["repositoryId"], {
        "Arn": made["Arn"],
        "Name": made["repositoryName"],
        "CloneUrlHttp": made["cloneUrlHttp"],
    }


def _arn(name: str, region: str, account: str) -> str:
    return f"arn:aws:codecommit:{region}:{account}:{name}"


def _repository_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(path_of(name))))


def _metadata(name: str) -> Json:
    path = path_of(name)
    created = path.joinpath("config").stat().st_mtime
    head = _must_git(name, "symbolic-ref", "--short", "HEAD").strip()
    metadata = {
        "accountId": _place.account,
        "repositoryId": _repository_id(name),
        "repositoryName": name,
        "Arn": _arn(name, _place.region, _place.account),
        "creationDate": created,
        "lastModifiedDate": created,
        "cloneUrlHttp": str(path),
        "kmsKeyId": _key(name),
    }
    # CodeCommit names no default branch before the first push.
    if _git(name, "rev-parse", "--verify", "--quiet", "HEAD") is not None:
        metadata["defaultBranch"] = head
    return metadata


def _name(request: Json) -> str:
    name = request.get("repositoryName")
    if not name:
        raise Refused("RepositoryNameRequiredException", "A repository name is required")
    if not REPOSITORY_NAME.fullmatch(name) or name.endswith(".git"):
        raise Refused("InvalidRepositoryNameException", f"The repository name {name} is not valid")
    return name


def _existing(request: Json) -> str:
    name = _name(request)
    if (get_account_id(), get_region()) != (_place.account, _place.region) or not path_of(name).exists():
        raise Refused("RepositoryDoesNotExistException", f"{name} does not exist")
    return name


def _commit(name: str, specifier: str) -> str:
    commit = _git(name, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{specifier}^{{commit}}")
    if commit is None:
        raise Refused("CommitDoesNotExistException", f"Commit {specifier} does not exist")
    return commit.strip()


def _run_git(name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs git on the repository. `--git-dir` keeps git from looking for a repository in the parent folders."""
    return subprocess.run(["git", f"--git-dir={path_of(name)}", *arguments], check=True, capture_output=True)


def _git(name: str, *arguments: str) -> str | None:
    """The output of git; None if git fails."""
    try:
        return _run_git(name, *arguments).stdout.decode(errors="replace")
    except subprocess.CalledProcessError:
        return None


def _must_git(name: str, *arguments: str) -> str:
    """The output of a git command that must succeed. A failure is a defect of the local cloud."""
    printed = _git(name, *arguments)
    assert printed is not None, f"git {arguments[0]} failed in {name}"
    return printed
