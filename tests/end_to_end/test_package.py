"""The package as others get it: a wheel in an empty virtual environment, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from worldloom.shipped import manifest

ROOT = Path(__file__).parents[2]
HEAVY = ("matplotlib", "av", "gymnasium", "scipy", "rich", "tyro", "jinja2", "PIL")


def test_importing_worldloom_imports_nothing_heavy() -> None:
    code = f"import sys, worldloom; worldloom.load, worldloom.Spec; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wheel_installs_and_runs_from_an_empty_environment(tmp_path: Path) -> None:
    """The wheel holds all that the package needs; its dependencies come from this environment by a path file."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    assert "worldloom/py.typed" in inside
    assert any(name.endswith(".html.j2") for name in inside)
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    shipped = {f"worldloom/shipped/{name}/{file}" for name, files in manifest().items() for file in files}
    assert shipped | {"worldloom/shipped/manifest.json"} <= set(inside)

    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True, capture_output=True
    )
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    own = Path(sysconfig.get_path("purelib"))
    # Everything but this source tree: the .pth file of the editable install is not followed from a plain path.
    (Path(site) / "dependencies.pth").write_text(f"{own}\n", encoding="utf-8")
    where = subprocess.run(
        [python, "-c", "import worldloom; print(worldloom.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert str(folder) in where
    command = [str(scripts / "worldloom"), "train", "balls", "--debug", "--steps", "2", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()

    command = [str(scripts / "worldloom"), "imagine", "balls", "--frames", "2", "--out", "dream.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dream.png").exists()
