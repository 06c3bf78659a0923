"""Runs the steps of the Dockerfile in a Debian root, where no Docker engine is at hand.

    debootstrap --variant=minbase bookworm ROOT MIRROR
    python3 .ci/dockerfile_in_chroot.py ROOT [--build-arg NAME=VALUE]… [--env NAME=VALUE]… [-- ARGUMENTS]

Knows the instructions that the Dockerfile uses (FROM, ARG, ENV, RUN, COPY, USER, WORKDIR, ENTRYPOINT, CMD), takes
any other as an error, and ends by running the entry point with ARGUMENTS as the image's user. Needs root and Linux.
Commands that run torch need proc and sys in it: mount -t proc proc ROOT/proc; mount -t sysfs sys ROOT/sys.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, rest) of every step, comments dropped and continued lines joined."""
    lines = [
        line
        for line in dockerfile.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (w, r.strip()) for w, _, r in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def expanded(text: str, variables: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, as Docker does in ENV."""
    return re.sub(r"\$\{?(\w+)\}?", lambda m: variables.get(m.group(1), ""), text)


def run_in(
    root: Path, command: list[str], variables: dict[str, str], user: str = "root", folder: str = "/"
) -> None:
    """One process in the root, as `user`, with exactly `variables` as its environment."""
    (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    inner = f"cd {shlex.quote(folder)} && exec " + shlex.join(command)
    switch = [] if user == "root" else ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
    environment = [f"{k}={v}" for k, v in variables.items()]
    subprocess.run(["chroot", str(root), "env", "-i", *environment, *switch, "sh", "-c", inner], check=True)


def build(root: Path, build_args: dict[str, str], extra: dict[str, str], arguments: list[str]) -> None:
    """Every step in order, then the entry point with `arguments` (or CMD)."""
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        **extra,
    }
    user, folder, entry, default = "root", "/", [], []
    for word, rest in instructions(REPOSITORY / "Dockerfile"):
        print(f"--- {word} {rest}", flush=True)
        if word == "FROM":
            continue
        if word == "ARG":
            name, _, value = rest.partition("=")
            variables[name] = build_args.get(name, value)
        elif word == "ENV":
            for part in shlex.split(rest):
                name, _, value = part.partition("=")
                variables[name] = expanded(value, variables)
        elif word == "RUN":
            run_in(root, ["sh", "-c", rest], variables, user, folder)
        elif word == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                copy(REPOSITORY / source, root / target.lstrip("/"), into=target.endswith("/"))
        elif word == "USER":
            user, variables["HOME"] = rest, f"/home/{rest}"
        elif word == "WORKDIR":
            folder = rest
        elif word == "ENTRYPOINT":
            entry = json.loads(rest)
        elif word == "CMD":
            default = json.loads(rest)
        else:
            sys.exit(f"unknown instruction: {word} {rest}")
    run_in(root, [*entry, *(arguments or default)], variables, user, folder)


def copy(source: Path, target: Path, *, into: bool) -> None:
    """COPY of a file or folder; a target that ends with a slash is a folder to copy into."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        return
    target = target / source.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    own, _, arguments = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    given = parser.parse_args(shlex.split(own))
    if not (given.root / "etc/debian_version").is_file():
        sys.exit(f"{given.root} is no Debian root: make one with debootstrap")
    pairs = [dict(item.split("=", 1) for item in items) for items in (given.build_arg, given.env)]
    build(given.root, pairs[0], pairs[1], shlex.split(arguments))


if __name__ == "__main__":
    main()
