import subprocess
import sys
from pathlib import Path

import fljax

ROOT = Path(fljax.__file__).parents[1]
CODE = """
import sys
from importlib import metadata
for name in ("distribution", "version"):
    def found(package, real=getattr(metadata, name)):
        if package == "fljax":
            raise metadata.PackageNotFoundError(package)
        return real(package)
    setattr(metadata, name, found)
import fljax
from fljax.simulation.environment import environment
from fljax.cli.app import main
print(fljax.__version__, environment()["versions"]["fljax"])
sys.argv = ["fljax", "--version"]
main()
"""


def test_a_checkout_that_is_only_on_the_path_runs():
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("unknown unknown\nfljax unknown\n", 0), done.stderr
