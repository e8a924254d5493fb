"""The smoke check that pushes tags to a temporary repository, and reads them as event-relay does."""

import base64
import subprocess
import tempfile
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime

from tools.failure import Failure
from tools.git import DEVELOPER, EMAIL
from tools.layout import CONFIG
from tools.operations.facts import Place, Seen, fails, hidden, holds, uninterrupted, unique_name
from tools.operations.policy import Unclear
from tools.operations.routes import matches
from tools.surroundings import clean_environment

TAGS = {"light": ("tag", "light"), "annotated": ("tag", "--annotate", "--message", "A test", "annotated")}


def tags_are_read(place: Place) -> Seen:
    """Pushes a plain and an annotated tag to a repository of its own, and reads the commit of both with GetFolder."""
    codecommit, name = place.client("codecommit"), unique_name()
    if route := _route_of(name):
        return hidden(f"the route of {route} would relay the repository of this check")
    with ExitStack() as stack:
        with uninterrupted():
            url = codecommit.create_repository(repositoryName=name)["repositoryMetadata"]["cloneUrlHttp"]
            stack.callback(place.remove, f"repository {name}", codecommit.delete_repository, repositoryName=name)
        commit = _push_tags(place, url)
        found = {tag: _commit_of(codecommit, name, tag) for tag in TAGS}
    if wrong := {tag: one for tag, one in found.items() if one != commit}:
        return fails("; ".join(f"the {tag} tag of commit {commit} leads to {one}" for tag, one in wrong.items()))
    return holds(f"both tags lead to commit {commit}")


def _route_of(name: str) -> str | None:
    """The repository of a route that matches the name, or that may match it."""
    for route in tomllib.loads(CONFIG.read_text()).get("route", []):
        repository: str = route.get("repository", "")
        try:
            if matches(repository, name):
                return repository
        except Unclear:
            return repository
    return None


def _commit_of(codecommit: Any, name: str, tag: str) -> str:
    request = {"repositoryName": name, "folderPath": "/", "commitSpecifier": f"refs/tags/{tag}"}
    commit: str = codecommit.get_folder(**request)["commitId"]
    return commit


def _push_tags(place: Place, url: str) -> str:
    """Pushes one commit with the tags `TAGS`, and returns the commit's id."""
    # The credentials are in the environment, because an error shows the command line.
    header = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader", "GIT_CONFIG_VALUE_0": _login(place, url)}
    who = {f"GIT_{one}_{key}": value for one in ("AUTHOR", "COMMITTER") for key, value in PERSON.items()}
    environ = clean_environment(**who, **(header if url.startswith("https:") else {}))
    with tempfile.TemporaryDirectory() as folder:

        def git(*words: str) -> str:
            command = ["git", "-C", folder, *words]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failure(f"git {' '.join(words)} failed: {done.stderr.strip()}")
            return done.stdout.strip()

        git("init", "--quiet", "--initial-branch=main")
        (Path(folder) / "README.md").write_text("A smoke check\n")
        git("add", "--all")
        git("commit", "--quiet", "--message", "A smoke check")
        for command in TAGS.values():
            git(*command)
        git("push", "--quiet", url, "main", *TAGS)
        return git("rev-parse", "HEAD")


PERSON = {"NAME": DEVELOPER, "EMAIL": EMAIL}


def _login(place: Place, url: str) -> str:
    """The HTTP header with which git logs in to CodeCommit: the name is the access key, the password a signature.

    git-remote-codecommit signs in the same way. AWS documents only the program.
    """
    address, credentials = urlsplit(url), place.session.get_credentials()
    if credentials is None:
        raise Failure(f"Profile {place.target.profile} has no credentials for git: log in.")
    keys = credentials.get_frozen_credentials()
    signer = SigV4Auth(keys, "codecommit", place.region)
    request = AWSRequest(method="GIT", url=url)
    # The password has the time without the Z of the signature's usual format.
    request.context["timestamp"] = get_current_datetime().strftime("%Y%m%dT%H%M%S")
    canonical = f"GIT\n{address.path}\n\nhost:{address.hostname}\n\nhost\n"
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    name = f"{keys.access_key}%{keys.token}" if keys.token else keys.access_key
    login = f"{name}:{request.context['timestamp']}Z{signature}"
    return f"Authorization: Basic {base64.b64encode(login.encode()).decode()}"
