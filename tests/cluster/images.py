"""An image for the look-alike of shifter: a Python of its own with the package as a wheel would lay it out."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import quatrain
from quatrain import hpc, site_configs, workflows

NEEDED = ("gcc", "bwrap")
HEADER = Path("/usr/include/slurm/spank.h")
NAME = "docker:group/quatrain:1"
PYTHON = "/opt/quatrain/bin/python"


def missing() -> list[str]:
    """Return what the look-alike of shifter needs and this machine lacks."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return lacking if HEADER.exists() else [*lacking, str(HEADER)]


def make(images: Path) -> Path:
    """Make the image's folder and return it.

    Its packages are those of this Python, seen under another path; the project's own code is a copy.
    """
    image = images / NAME.removeprefix("docker:").replace("/", "_").replace(":", "_")
    packages = (
        image / "opt" / "quatrain" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    )
    (image / "opt" / "packages").mkdir(parents=True)
    (image / "opt" / "quatrain" / "bin").mkdir(parents=True)
    packages.mkdir(parents=True)
    base = Path(sys.base_prefix)
    home = base / "bin"
    (image / "opt" / "quatrain" / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        (image / "opt" / "quatrain" / "bin" / name).symlink_to(Path(sys.executable).resolve())
    _pool(image / "opt" / "quatrain" / "bin" / "process_worker_pool.py")
    (packages / "packages.pth").write_text("/opt/packages\n")
    _copy_package(packages / "quatrain")
    here = sysconfig.get_paths()["purelib"]
    (image / "mounts").write_text(f"{base} {base}\n{here} /opt/packages\n")
    (image / "env").write_text("PATH=/opt/quatrain/bin:/usr/bin:/bin\nIN_IMAGE=group/quatrain:1\n")
    return image


def _pool(path: Path) -> None:
    """Install Parsl's worker command under the image's Python."""
    source = Path(sys.executable).with_name("process_worker_pool.py").read_text()
    path.write_text(f"#!{PYTHON}\n{source.partition(chr(10))[2]}")
    path.chmod(0o755)


def _copy_package(target: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(quatrain.__file__).parent, target, ignore=ignore)
    for part in (hpc, site_configs, workflows):
        folder = Path(part.__file__).parent
        shutil.copytree(folder, target / folder.name, ignore=ignore, dirs_exist_ok=True)


def plug_in(folder: Path) -> None:
    """Compile Slurm's plug-in for shifter's options into a folder, and make that folder's plugstack.conf name it."""
    source, library = Path(__file__).with_name("shifter_options.c"), folder / "shifter_options.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)], check=True)
    (folder / "plugstack.conf").write_text(f"required {library}\n")
