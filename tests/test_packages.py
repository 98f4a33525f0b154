"""The generic top-level names resolve inside this repository, and nothing installed shadows them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["emonet", "cache", "datamodules", "lightningmodules", "experiments"])
def test_package_is_ours(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).is_relative_to(ROOT)


def test_importing_the_library_is_light() -> None:
    code = "import emonet, experiments.cli.verbs, sys; print([m for m in ('torch','mlflow','lightning','transformers','zarr','pandas','matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_library_lists_what_it_offers() -> None:
    """In a fresh process, where nothing that is heavy has been imported yet."""
    code = "import emonet, sys; print(dir(emonet) == sorted(emonet.__all__), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_ctrl_c_while_the_command_imports_gives_no_traceback() -> None:
    code = (
        "import builtins, sys; real = builtins.__import__\n"
        "def stop(name, *rest):\n"
        "    if name == 'experiments.cli.verbs': raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "from experiments.cli.entry import main; builtins.__import__ = stop; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["default", "given", "policy"],
)
def test_threads_that_wait_leave_the_cores_to_others(given: dict[str, str], expected: str) -> None:
    code = "import emonet, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
