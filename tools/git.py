"""Runs git as one developer, without the machine's own git settings."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tools.failure import Failure
from tools.surroundings import clean_environment

DEVELOPER, EMAIL = "Developer", "developer@example.com"


def git(*command: str | Path) -> str:
    """Runs git and returns its standard output, stripped."""
    env = clean_environment(
        GIT_AUTHOR_NAME=DEVELOPER,
        GIT_AUTHOR_EMAIL=EMAIL,
        GIT_COMMITTER_NAME=DEVELOPER,
        GIT_COMMITTER_EMAIL=EMAIL,
    )
    words = [str(word) for word in command]
    done = subprocess.run(["git", *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


class Clone:
    """A developer's clone of a repository."""

    def __init__(self, remote: Path, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        git("clone", "--quiet", remote, folder)

    def git(self, *command: str) -> str:
        """Runs git in the clone. The options keep git from looking for a repository in the parent folders."""
        where = ("-C", self.folder, f"--git-dir={self.folder / '.git'}", f"--work-tree={self.folder}")
        return git(*where, *command)

    def commit(self, files: Mapping[str, str | None], message: str = "Change", branch: str | None = None) -> str:
        """Writes the files, deletes those whose content is None, and commits all changes; returns the commit's id."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
        if branch is not None:
            self.git("checkout", "--quiet", "-B", branch)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refs: str) -> None:
        """Pushes the refs to the remote."""
        self.git("push", "--quiet", "origin", *refs)
