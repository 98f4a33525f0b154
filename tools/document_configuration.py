"""Write docs/configuration.md out of the fields' own descriptions: `python tools/document_configuration.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.core import Experiment

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

An experiment is one YAML file: the name of a shipped one (`emonet experiments` lists them) or a path to your own,
given as `--experiment`. It holds only what differs from the defaults below; an unknown field is an error that suggests
the nearest one. Every field is a flag as well, with the same name and dashes for underscores:

    emonet heads --experiment ravdess --heads.preset large --heads.inputs statistics attention

A stage's own section needs no prefix: `emonet extract --batch-size 8` is `--extraction.batch-size 8`, `emonet pretrain`
has `captioner`, `emonet heads` has `heads`.

Flags are not remembered from stage to stage: what `emonet extract` was given (`--corpus`, `--name`, `--captioner`),
`emonet heads` needs again (there `--extraction.captioner`). A file of your own saves typing them.

Precedence: defaults < YAML < flags. The resolved configuration is logged with each run (`config.json`). A stage runs
again when something that fixes its outcome changed, and only then; `--force` runs it anyway. A feature store that
was extracted with another captioner is never replaced unasked: `emonet extract ... --force` does it.

Environment: `MLFLOW_TRACKING_URI` names a tracking server in place of `runs/mlflow.db`; `HF_HOME` is where Hugging
Face keeps downloaded models. A server that does not answer, or whose artefacts cannot be written from here, is told
within seconds, before the work (`MLFLOW_HTTP_REQUEST_TIMEOUT` and `MLFLOW_HTTP_REQUEST_MAX_RETRIES` say otherwise).
While one is away later, work goes on: what it does not take is logged once it is back, and if it stays away the command
fails at its end, with all results kept on disk.

A captioner is a folder, a hub id, or a hub id at a tag, branch or commit: `openai/whisper-small@REVISION`. A hub model
that was downloaded before is used as it was, without a network. Its weights fix the outcome of a stage, not its name.

Exit codes: 0 done, 1 the run failed, 2 the request was wrong; 128 + N where signal N ended it (130 after Ctrl-C, 143
after SIGTERM, 129 when the terminal closed), and then the last line says what is kept and how to go on.

With `make`, `CORPUS`, `EXPERIMENT`, `ON`, `WORKERS`, `PYTHON` and `TORCH_INDEX` reach the command as they were typed,
whatever is in them: `make extract CORPUS='manifest:/data/my corpus/$1 clips.csv'`. `ARGS` and `MODELS` are several
words, quoted as in a shell.

A file of your own:

```yaml
# mine.yaml: `emonet pretrain --experiment mine.yaml`, then extract and heads; results go to runs/mine/
corpus: manifest:data/mine/clips.csv
captioner:
  model: openai/whisper-small
  epochs: 3
  learning_rate: 1.0e-5
heads:
  inputs: [flatten, statistics]
```
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *_section("", Experiment)]
    return "\n".join(parts).rstrip() + "\n"


def _section(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    fields = model.model_fields
    title = f"`{prefix}`" if prefix else "The experiment itself"
    about = (model.__doc__ or "").strip().splitlines()[0]
    yield f"\n## {title}\n\n{about}\n\n| field | default | meaning |\n| --- | --- | --- |"
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append((f"{prefix}.{name}".lstrip("."), field.annotation))
            continue
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        yield f"| `{name}` | `{_shown(field.get_default(call_default_factory=True))}` | {text} |"
    for path, inner in nested:
        yield from _section(path, inner)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value) if value != "" else '""'


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
