"""A browser for tests and pictures, which comes as an npm package and needs no system package."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tools.build import environment
from tools.failure import Failure
from tools.layout import ARCHITECTURE
from tools.machine import TOOLS, locked

# npm has this browser for one architecture only.
SUPPORTED = ARCHITECTURE == "x86_64"
# The folder into which the package unpacks the browser and its font, about 200 MB.
FOLDER = TOOLS / "browser"
# The package's own list of fonts names a folder in /tmp; without any font, a page would show no text. Here, the
# package's font replaces every font that a page asks for and the package lacks, so that a picture looks the same on all
# machines. The machine's fonts have only the letters that this one lacks.
FONTS = FOLDER / "fonts.conf"
FONTS_CONF = f"""<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{FOLDER / "fonts"}</dir>
  <dir>/usr/share/fonts</dir>
  <match target="pattern">
    <edit name="family" mode="append" binding="strong"><string>Open Sans</string></edit>
  </match>
  <cachedir>{FOLDER / "fonts-cache"}</cachedir>
</fontconfig>
"""
PICTURE = Path(__file__).with_name("picture.mjs")


def run_in_browser(script: Path, given: Any, seconds: float = 120) -> Any:
    """Runs a script for Node that opens pages in the browser; its input and its output are JSON."""
    if not SUPPORTED:
        raise Failure("npm has the browser for x86_64 only.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The package's own switch for Lambda makes it unpack the libraries that a machine may lack.
    env = environment(TMPDIR=str(FOLDER), AWS_LAMBDA_JS_RUNTIME="nodejs22.x", FONTCONFIG_FILE=str(FONTS))
    with locked(FOLDER):
        FONTS.write_text(FONTS_CONF)
        done = subprocess.run(
            ["node", script],
            env=env,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    if done.returncode != 0:
        raise Failure(f"{script.name} failed in the browser:\n{done.stderr}")
    return json.loads(done.stdout or "null")


def take_picture(address: str, file: Path, width: int = 1200) -> None:
    """Writes a picture of the whole page at the address, with all of its frames at full height."""
    run_in_browser(PICTURE, [{"url": address, "file": str(file), "width": width}])
