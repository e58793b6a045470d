"""What Hydra's own sweeper lacks: a job whose config cannot be composed leaves the others running."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from gnnfast.cli.hydra_app import explain_config

_NAME = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
# Not imported by name: Hydra loads its plugins anew when it looks for them.
_BasicSweeper: Any = Plugins.instance().class_name_to_class[_NAME]


def install_sweeper() -> None:
    """Puts `Sweeper` in the place of Hydra's, under that one's name: Hydra takes no plugins from here."""
    Plugins.instance().class_name_to_class[_NAME] = Sweeper


class Sweeper(_BasicSweeper):
    """Hydra's sweeper, without the jobs that cannot be composed; raises `JobsRejected` once the others are done."""

    def sweep(self, arguments: list[str]) -> Any:
        self.rejected: dict[str, BaseException] = {}
        returns = super().sweep(arguments)
        if self.rejected:
            raise JobsRejected(self.rejected)
        return returns

    def get_job_batch(self) -> list[list[str]]:
        return [list(job) for job in super().get_job_batch() if self._composes(list(job))]

    def validate_batch_is_legal(self, batch: Any) -> None:
        """Nothing is left to check: `get_job_batch` has composed every job."""

    def _composes(self, job: list[str]) -> bool:
        try:
            self.hydra_context.config_loader.load_sweep_config(self.config, job)
        except (HydraException, OmegaConfBaseException) as error:
            self.rejected[explain_config(error, self.config.hydra.job.config_name, job)] = error
            return False
        return True


class JobsRejected(Exception):
    """Jobs of a sweep that could not be composed, by what is wrong with them."""

    def __init__(self, errors: dict[str, BaseException]):
        super().__init__("; ".join(errors))
        self.errors = errors
