"""`make setup`: the environment with the locked packages. Whatever goes wrong is one line that says what to do.

    python3 tools/setup.py VENV UV_VERSION

uv installs the lock in seconds; where it cannot be had, pip reads the same lock. Only the standard library, and no word
that an older Python does not understand: it is this file that says that a Python is too old.
"""

import os
import re
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
LOCK = os.path.join("requirements", "dev.lock")
SPACE = "4 GB"  # what the environment takes
LAST_LINES = 15

# What is said of a failure of these signs in what pip or uv said.
SIGNS = (
    (
        r"No space left|os error 28|Errno 28|Disk quota",
        "no space left: the packages take {space} in {venv}, and room in {cache} while they are downloaded; free some, "
        "or choose another place: make VENV=/elsewhere/venv …",
    ),
    (
        r"Permission denied|os error 13|Errno 13|Read-only file system|Errno 30|os error 30",
        "no permission to write {venv}; choose another place: make VENV=/elsewhere/venv …",
    ),
    (
        r"name resolution|Name or service not known|NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|"
        r"Connection refused|Network is unreachable|dns error|error sending request|Failed to fetch|timed out|SSLError",
        "no package registry can be reached; check the network and the proxy (HTTPS_PROXY), or name a registry "
        "of yours: PIP_INDEX_URL=… UV_INDEX_URL=… make …",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH|Hash mismatch|hash mismatch",
        "a downloaded package is not the one that {lock} names: the registry gave something else; try another registry",
    ),
)


class Failed(Exception):
    """One line for the user."""


def main(arguments):
    venv, uv_version = arguments
    try:
        check_python()
        make_environment(venv)
        print("installing the locked packages (about 1 GB to download the first time)")
        sys.stdout.flush()
        install(venv, uv_version)
    except Failed as failed:
        sys.stderr.write(f"{failed}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here.\n")
        return 130
    return 0


def check_python():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise Failed(
            f"textmill needs Python {words(OLDEST)} to {words(NEWEST)}; this is Python {words(sys.version_info[:3])}. "
            "Say which one: make PYTHON=python3.11 …"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise Failed(
            "this Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv"
        ) from None


def words(version):
    return ".".join(map(str, version))


def make_environment(venv):
    if all(os.access(os.path.join(venv, "bin", name), os.X_OK) for name in ("python", "pip")):
        return  # pip is what comes last: one that was broken off lacks it
    print("making the environment in " + venv)
    sys.stdout.flush()
    code, said = run([sys.executable, "-m", "venv", venv])
    if code:
        raise Failed(reason(said, venv) or f"cannot make the environment in {venv}: {last_line(said)}")


def install(venv, uv_version):
    """With uv, or else with pip."""
    python, uv = os.path.join(venv, "bin", "python"), os.path.join(venv, "bin", "uv")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with_uv = [uv, "pip", "install", "--quiet", "--python", python]
    ways = (
        (
            [*pip, "uv==" + uv_version],
            [*with_uv, "--require-hashes", "--compile-bytecode", "-r", LOCK],
            [*with_uv, "--no-deps", "--editable", "."],
        ),
        ([*pip, "--require-hashes", "-r", LOCK], [*pip, "--no-deps", "--editable", "."]),
    )
    said = ""
    for number, commands in enumerate(ways):
        if number:
            print("uv did not do it; trying pip")
            sys.stdout.flush()
        for command in commands:
            code, said = run(command)
            if code:
                break
        else:
            return
        known = reason(said, venv)
        if known:  # pip would meet the same
            raise Failed(known)
    sys.stderr.write("\n".join(said.splitlines()[-LAST_LINES:]) + "\n")
    raise Failed("the packages could not be installed: " + last_line(said))


def run(command):
    """A command's exit code and all that it said."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return ended.returncode, ended.stdout.decode("utf-8", "replace")


def reason(said, venv):
    """The line for what a failed command said; "" for nothing that is known."""
    cache = os.environ.get("UV_CACHE_DIR") or os.path.join("~", ".cache")
    for signs, line in SIGNS:
        if re.search(signs, said):
            return line.format(space=SPACE, venv=venv, cache=cache, lock=LOCK)
    return ""


def last_line(said):
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
