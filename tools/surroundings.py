"""The environment of this project's processes: the variables from the reader's shell, and those set by the project.

A shell exports settings of git, pip, npm, cargo, sam, Python and the AWS SDKs. Such a setting can change a result, or
make a command write to another repository, folder or account. Therefore a local command gets only the variables that
are named here; docs/local-stack.md explains the choice. This module uses only the standard library, because it runs
before anything is installed.
"""

import os
import re
from collections.abc import Mapping

from tools.layout import ROOT

# With this umask, others can read the files, because Lambda reads packaged files as another user.
UMASK = 0o022

# Variables that describe the machine: where its programs are, and where the programs keep their own files.
MACHINE = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|COLUMNS|LINES|NO_COLOR|CI|TMPDIR|XDG_(CACHE|CONFIG)_HOME"
    r"|LD_LIBRARY_PATH|NIX_LD|NIX_LD_LIBRARY_PATH"  # without these, the programs of some machines do not start
    r"|CARGO_HOME|CARGO_BUILD_JOBS|RUSTUP_[A-Z_]+"
    r"|(PYENV|NODENV)_ROOT|ASDF_(DATA_)?DIR|MISE_DATA_DIR|VOLTA_HOME|NVM_DIR|FNM_DIR"
    r"|SEKISHO_(BENCH_LOG|SWEEP_OBJECTS|RACES)"  # the benchmark and two end-to-end tests read these variables
)
# Variables that lead to the package registries: addresses, credentials, proxies and certificates.
REGISTRIES = re.compile(
    r"(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy"
    r"|(NIX_)?SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NODE_EXTRA_CA_CERTS"
    r"|PIP_((EXTRA_)?INDEX_URL|NO_INDEX|FIND_LINKS|TRUSTED_HOST|PROXY|(CLIENT_)?CERT|(DEFAULT_)?TIMEOUT|RETRIES"
    r"|CONFIG_FILE|KEYRING_PROVIDER|(NO_)?CACHE_DIR)"
    r"|CARGO_(HTTP|NET|REGISTRY|REGISTRIES)_[A-Z0-9_]+"
    r"|NPM_TOKEN|NODE_AUTH_TOKEN"
    r"|(?i:npm_config_(registry|(https?_?)?proxy|https-proxy|noproxy|ca|cafile|cert|key|strict_ssl|userconfig"
    r"|globalconfig|cache|fetch_\w+|maxsockets|_auth\w*|@[^:]+:registry|//.+))"
)
# Settings of the programs that this project starts. A command on real accounts drops these and keeps all others.
PROGRAMS = re.compile(
    r"(GIT|PIP|CARGO|RUST|RUSTC|SAM_CLI|__SAM_CLI)_\w+|RUSTC|RUSTFLAGS|RUSTDOCFLAGS|PYTHON\w+"
    r"|(?i:npm_config_.*)|NODE_(OPTIONS|ENV|PATH)|(CC|CXX|CFLAGS|CXXFLAGS|CPPFLAGS|LDFLAGS|AR)(_.*)?"
    r"|MAKE(FLAGS|FILES|LEVEL|OVERRIDES)|MFLAGS|GNUMAKEFLAGS|LD_PRELOAD|BASH_ENV|ENV|CDPATH|LC_\w+|LANGUAGE"
)

# Every machine uses the same language, time zone and encoding.
PLACE = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONUTF8": "1"}
# git uses only the settings, hooks, templates, ignored files and attributes of the repository itself.
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TEMPLATE_DIR": "",
    "GIT_TERMINAL_PROMPT": "0",
    # Git reads these two files even if there is no global configuration, so both are set to the null device.
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "core.excludesFile",
    "GIT_CONFIG_VALUE_0": "/dev/null",
    "GIT_CONFIG_KEY_1": "core.attributesFile",
    "GIT_CONFIG_VALUE_1": "/dev/null",
}
# These variables hide profiles, credentials and an instance role: a local command must never reach a real account.
AWS = {
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_PAGER": "",
}
# These variables override files in the reader's home folder. An empty value means that there are no flags or wrappers.
BUILD = {
    "CARGO_TARGET_DIR": str(ROOT / "target"),
    "RUSTFLAGS": "",
    "RUSTC_WRAPPER": "",
    "RUSTC_WORKSPACE_WRAPPER": "",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "SAM_CLI_TELEMETRY": "0",
    "__SAM_CLI_APP_DIR": str(ROOT / ".aws-sam" / "app"),
}
# These addresses bypass a proxy, so that the local cloud is reached directly.
LOOPBACK = "127.0.0.1,localhost,::1"


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of a local command. It keeps only the shell's variables for the machine and the registries."""
    kept = _kept(MACHINE) | _kept(REGISTRIES)
    return {"PATH": os.defpath} | kept | _without_proxy_on_loopback(kept) | PLACE | GIT | AWS | BUILD | extra


def server_environment(**extra: str) -> dict[str, str]:
    """The environment of a local server, which downloads and builds nothing."""
    return {"PATH": os.defpath} | _kept(MACHINE) | PLACE | GIT | AWS | extra


def operator_environment(**extra: str) -> dict[str, str]:
    """The environment of a command on real accounts.

    It keeps every variable that may belong to the person's credentials, and drops settings of the programs that build
    and deploy.
    """
    kept = {name: value for name, value in os.environ.items() if not PROGRAMS.fullmatch(name)}
    kept |= _kept(MACHINE) | _kept(REGISTRIES)
    return {"PATH": os.defpath} | kept | _without_proxy_on_loopback(kept) | PLACE | GIT | BUILD | extra


def adopt(environment: Mapping[str, str]) -> None:
    """Makes this process, and all that it starts, use the environment and the project's umask."""
    os.environ.clear()
    os.environ.update(environment)
    os.umask(UMASK)


def _kept(names: re.Pattern[str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if names.fullmatch(name)}


def _without_proxy_on_loopback(kept: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY with the loopback addresses added; nothing if there is no proxy."""
    if not any(name.lower().endswith("_proxy") for name in kept):
        return {}
    given = kept.get("no_proxy") or kept.get("NO_PROXY")
    hosts = f"{given},{LOOPBACK}" if given else LOOPBACK
    return {"NO_PROXY": hosts, "no_proxy": hosts}
