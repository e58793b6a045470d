"""`gnnfast COMMAND [overrides]`: finds the command; nothing heavy is imported before it is known."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module

from gnnfast import __version__

COMMANDS = {
    "train": "one training run; -m sweeps over comma-separated values",
    "evaluate": "exact metrics of a run's model",
    "predict": "a run's predictions, or embeddings, as a file",
    "verify": "whether a sampler keeps its law; sampler='glob(*)' for all",
    "bench": "sampler, loader, kernel, step or epoch, beside the peers that are installed",
}

HELP = f"""gnnfast {__version__}: trains graph neural networks by mini-batch sampling

usage: gnnfast COMMAND [key=value ...]

commands:
{chr(10).join(f"  {name:10} {text}" for name, text in COMMANDS.items())}

examples:
  gnnfast train                                        the embedded data set, digits
  gnnfast train dataset=cora model=gcn training.epochs=100
  gnnfast train -m model=gcn,gat,sage seed=0,1,2       a sweep: nine runs, one table
  gnnfast train dataset=files dataset.edges=edges.csv dataset.features=x.npy dataset.labels=y.npy
  gnnfast train sampler._target_=my_module.MySampler   a sampler of yours, from this folder
  gnnfast evaluate run=RUN
  gnnfast predict run=RUN output=predictions.parquet
  gnnfast verify sampler=labor
  gnnfast bench stage=step size=arxiv

options:
  COMMAND --help      the command's groups and settings
  --config-dir DIR    a folder of your own configs, beside the built-in ones
  --traceback         where an error came from, not only what it is
  --version
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        sys.exit(0)
    if arguments[0] == "--version":
        print(__version__)
        sys.exit(0)
    command, *overrides = arguments
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(COMMANDS)}"
        sys.exit(_complain(f"{command!r} is not a command: {hint}"))
    prepare_process()
    import_module(f"gnnfast.cli.{command}").main(overrides)


def prepare_process() -> None:
    """What every process that trains begins with, before torch is imported."""
    # torch's threads else spin while they wait: half the speed, or a twentieth, where anything else uses the processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # oneDNN, and torch in front of it, keep what they generate per shape, for 1024 shapes: of mini-batches, which
    # rarely have one twice, hundreds of megabytes.
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "32")
    if "RANK" in os.environ:
        # DDP has every rank say that it need not look for parameters without use, where none is.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # A user's own modules: sampler._target_=my_module.MySampler.
    sys.path.append(os.getcwd())


def _complain(message: str) -> int:
    print(f"gnnfast: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
