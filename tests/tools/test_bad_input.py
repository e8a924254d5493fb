"""A problem that is found before anything runs is reported with its solution, and the command fails."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from tools import build, machine
from tools.failure import Failure
from tools.layout import CONFIG, ROOT
from tools.ports import free_port


def make_path(folder, programs, **fakes):
    """Makes a folder for PATH with links to real programs, and with fake programs, each given as a shell script."""
    folder.mkdir()
    for name in programs:
        (folder / name).symlink_to(shutil.which(name))
    for name, script in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def make_setup(path):
    """Runs the command of `make setup` with this PATH."""
    command = [sys.executable, str(ROOT / "tools"), "setup"]
    environ = {**os.environ, "PATH": str(path)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_each_missing_program_is_named_with_its_source(tmp_path):
    done = make_setup(make_path(tmp_path / "bin", ["sh"]))
    assert done.returncode == 1
    for name, how in {
        "rustc": "rustup",
        "cargo": "rustup",
        "git": "apt-get install git",
        "cc": "apt-get install gcc",
        "node": "apt-get install nodejs",
        "npm": "apt-get install npm",
    }.items():
        (line,) = (line for line in done.stderr.splitlines() if line.startswith(f"  {name} is missing"))
        assert how in line
    assert "Traceback" not in done.stderr


def test_an_old_node_and_an_old_rust_are_named(tmp_path):
    path = make_path(
        tmp_path / "bin", ["sh", "git", "cc", "npm", "cargo"], node="echo v18.19.0", rustc="echo rustc 1.70.0"
    )
    done = make_setup(path)
    assert done.returncode == 1
    assert "node v18.19.0 is too old: Node.js 20 or later" in done.stderr
    assert "rustc 1.70.0 is too old" in done.stderr and "rustup update" in done.stderr


def test_a_missing_rust_target_is_named_with_the_command_that_adds_it(tmp_path):
    rustc = 'case "$1" in --version) echo rustc 1.99.0;; *) echo /nowhere/lib;; esac'
    path = make_path(tmp_path / "bin", ["sh", "git", "cc", "npm", "node", "cargo"], rustc=rustc)
    done = make_setup(path)
    assert done.returncode == 1
    assert "rustup target add" in done.stderr and "-unknown-linux-gnu" in done.stderr


def test_without_the_network_setup_reports_the_solution(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "VENV", tmp_path / "venv")
    monkeypatch.setattr(machine, "LOGS", tmp_path)
    # Nobody listens on this port, which is reserved for the discard protocol.
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Failure) as failure:
        machine.set_up()
    assert "Installing Python tools into .venv failed" in str(failure.value)
    assert "check the network" in str(failure.value)
    assert not (tmp_path / "venv" / ".stamp").exists(), "the next run would skip the installation"


def test_a_port_in_use_is_named_with_the_solution():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Failure) as failure:
            free_port(port)
    assert f"Port {port} can't be used" in str(failure.value) and "PORT" in str(failure.value)


def test_a_typo_in_the_config_is_named_with_its_key(tmp_path, monkeypatch):
    typo = tmp_path / "sekisho.toml"
    typo.write_text(CONFIG.read_text().replace("max_minutes ", "max_minuets "))
    monkeypatch.setattr(build, "CONFIG", typo)
    monkeypatch.setattr(build, "LOCAL", tmp_path)
    with pytest.raises(Failure) as failure:
        build.build()
    assert "max_minuets" in str(failure.value) and "max_minutes" in str(failure.value)
