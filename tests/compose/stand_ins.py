"""Images under the names that the Dockerfiles and the compose file use, made from Debian, where no registry can be asked.

Debian 12 has the Python (3.11) and a Redis (7.0) of the same versions, so the stand-ins differ in size rather than in behaviour.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.compose.engine import debian_archive
from tests.compose.tools import attempt, insist

PYTHON, REDIS, BASE = "python:3.11-slim", "redis:7-alpine", "stand-in/debian"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates,redis-server"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

PYTHON_FILE = """\
FROM stand-in/debian
COPY authorities.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
COPY packages /pip-packages
RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
"""
PIP_CONF = f"""\
[global]
cert = {AUTHORITIES}
timeout = 180
disable-pip-version-check = true
find-links = /pip-packages
"""
REDIS_FILE = """\
FROM stand-in/debian
RUN mkdir -p /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
"""


def make_stand_ins(work: Path, env: Mapping[str, str], cache: Path | None) -> None:
    """Both images, in the engine of `env`. `cache` keeps the base system for the next time."""
    base = cache or work / "base.tar"
    if not base.exists():
        made = base.with_name(f"{base.name}.new.tar")
        insist(["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", made, debian_archive()], timeout_s=500)
        made.replace(base)
    insist(["docker", "import", base, BASE], timeout_s=200, env=env)
    _build(REDIS, REDIS_FILE, work / "redis", env)
    _pip_as_here(work / "python")
    _build(PYTHON, PYTHON_FILE, work / "python", env)


def _build(image: str, text: str, folder: Path, env: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    insist(["docker", "build", "--quiet", "--tag", image, folder], timeout_s=200, env=env)


def _pip_as_here(folder: Path) -> None:
    """pip in the image trusts the authorities of this machine, and finds the wheels that this machine's pip finds in folders."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    shutil.copy(AUTHORITIES, folder / "authorities.crt")
    told = attempt(["pip", "config", "get", "global.find-links"])
    folders = [Path(word) for word in told.output.split() if told.code == 0 and Path(word).is_dir()]
    for wheel in (wheel for known in folders for wheel in known.glob("*.whl")):
        shutil.copy(wheel, packages)
    lines = [
        "[global]",
        f"cert = {AUTHORITIES}",
        "timeout = 180",
        "disable-pip-version-check = true",
        "find-links = /pip-packages",
    ]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
