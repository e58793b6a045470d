"""The training loop, exact inference, metrics and what a run leaves behind."""

from gnnfast.training.epoch import Progress as Progress
from gnnfast.training.evaluation import Evaluator as Evaluator
from gnnfast.training.history import History as History
from gnnfast.training.inference import LayerwiseInference as LayerwiseInference
from gnnfast.training.link_evaluation import LinkEvaluator as LinkEvaluator
from gnnfast.training.loop import train as train
from gnnfast.training.metrics import compute_metrics as compute_metrics
from gnnfast.training.result import TrainingResult as TrainingResult
from gnnfast.training.row_adam import RowAdam as RowAdam
from gnnfast.training.run_folder import RunFolder as RunFolder
from gnnfast.training.settings import TrainingSettings as TrainingSettings
from gnnfast.training.stopping import Stopped as Stopped
from gnnfast.training.stopping import StopSignals as StopSignals
from gnnfast.training.tasks import task_of as task_of
