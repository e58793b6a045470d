"""Several processes that train one model."""

from .environment import Place as Place
from .environment import place as place
from .launch import Interrupted as Interrupted
from .launch import RankFailed as RankFailed
from .launch import launch as launch
from .rank import run_rank as run_rank
from .share import shared as shared
from .world import World as World
from .world import leave_world as leave_world
from .world import world as world
