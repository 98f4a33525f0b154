"""Guards around a training: memory that does not suffice, Ctrl-C, a framework that talks."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from emonet.configs import CaptionerConfig
from emonet.errors import EmonetError


@contextmanager
def enough_memory(config: CaptionerConfig) -> Iterator[None]:
    """Turn a GPU that is full into advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EmonetError(
            "the GPU has too little memory for this captioner",
            found=str(error).splitlines()[0],
            hint=(
                f"--captioner.batch-size {max(1, config.batch_size // 2)} "
                f"--captioner.accumulate {config.accumulate * 2}"
                + ("" if config.gradient_checkpointing else ", or --captioner.gradient-checkpointing")
            ),
        ) from error


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C stays Ctrl-C: Lightning turns it into an exit and leaves it switched off."""
    ours = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning from listing devices and hints; its warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)  # Lightning's own tree code
        warnings.filterwarnings("ignore", r"Checkpoint directory .* exists and is not empty")  # our digest is in it
        # Slices of arrays in memory: workers could only slow them down.
        warnings.filterwarnings("ignore", r".*does not have many workers.*")
        warnings.filterwarnings("ignore", r"The number of training batches .* smaller than the logging interval")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
