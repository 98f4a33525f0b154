"""Make `import torchaudio` work beside a CPU-only torch; does nothing where it works already.

torchaudio's wheel brings compiled libraries that link CUDA, and where torch was built without it the import fails on
them. Its own loader carries on without these files, and all that emonet uses of torchaudio (augmentation in training)
is pure PyTorch. So move them out of the way, and say so.

Run it with the interpreter to repair: `python tools/repair_torchaudio.py`.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path


def imports() -> bool:
    """Whether a fresh interpreter imports torchaudio."""
    command = [sys.executable, "-c", "import torchaudio"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Repair when needed; 0 if torchaudio imports at the end."""
    spec = importlib.util.find_spec("torchaudio")
    if spec is None or spec.origin is None:
        print("torchaudio is not installed; try: pip install -e .", file=sys.stderr)
        return 1
    if imports():
        print("torchaudio: imports, nothing to repair")
        return 0
    libraries = sorted((Path(spec.origin).parent / "lib").glob("*.so"))
    for library in libraries:
        library.rename(library.with_name(library.name + ".needs-cuda"))
    if not imports():
        print("torchaudio still does not import; try: python -c 'import torchaudio'", file=sys.stderr)
        return 1
    print(f"torchaudio: set aside {len(libraries)} compiled libraries that need CUDA; the rest works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
