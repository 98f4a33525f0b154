"""The job array of `extract`: a Slurm script whose tasks each do a part of the store."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import yaml

from emonet.errors import RequestError
from emonet.schema import Schema
from experiments.core import Experiment, console, write_text

NAME = "extract-array"
_SCRIPT = """\
#!/bin/bash
# Each of {parts} tasks does its share of the store's shards; the one that ends last completes it.
# Also to go on where one was stopped:  sbatch {script}
# Without Slurm, for each task:  SLURM_ARRAY_TASK_ID=0 bash {script}
#SBATCH --job-name=emonet-{name}
#SBATCH --array=0-{last}
#SBATCH --output="{log}-%a.log"
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=8
# A GPU for each task (one # less):
##SBATCH --gpus-per-task=1
# A minute before its time is over, and when it is preempted, a task writes the shards that it has complete, and ends.
# Slurm queues it again where it was preempted or its node has failed, not where its time was over: submit this again.
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
set -eu
cd {folder}
exec {python} -P -m experiments.cli extract --experiment {experiment} \\
  --num-shards {parts} --shard-index "${{SLURM_ARRAY_TASK_ID:?submit this with sbatch}}"
"""


class ArrayResult(Schema):
    """What `emonet extract --array` wrote."""

    script: Path
    """For sbatch."""
    settings: Path
    """The experiment as it was asked for, which the script names."""
    parts: int
    """Tasks of the array (count)."""


def run(experiment: Experiment, parts: int) -> ArrayResult:
    """Write the script and the experiment's settings beside it; nothing is extracted.

    Raises:
        RequestError: if settings exclude a job array.
    """
    extraction = experiment.extraction
    if experiment.force or extraction.engine == "ray" or extraction.num_shards > 1:
        found = "--force" if experiment.force else "--engine ray" if extraction.engine == "ray" else "--num-shards"
        raise RequestError(
            "parts of a job array share one store, each with a process of its own",
            found=f"--array {parts} with {found}",
            hint="leave out one of the two; a store that is to be made anew is removed first",
        )
    folder = experiment.folder.resolve()
    script, settings = folder / f"{NAME}.sh", folder / f"{NAME}.yaml"
    fields = experiment.model_dump(mode="json", exclude_defaults=True) | {"name": experiment.name}
    write_text(settings, "# As `emonet extract --array` was asked for.\n" + yaml.safe_dump(fields, sort_keys=False))
    text = _SCRIPT.format(
        parts=parts,
        last=parts - 1,
        name=experiment.name,
        script=shlex.quote(str(script)),
        log=str(folder / NAME).replace("%", "%%"),
        folder=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        experiment=shlex.quote(str(settings)),
    )
    write_text(script, text)
    return ArrayResult(script=script, settings=settings, parts=parts)


def show(result: ArrayResult) -> None:
    """How to submit it, on stderr."""
    console.say(f"a job array of {console.counted(result.parts, 'task')}: {console.name(result.script)}")
    console.say(f"  sbatch {console.name(shlex.quote(str(result.script)))}")
