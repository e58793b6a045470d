"""Timing beside the peers that are installed, in one run, and beside what the machine could do at best."""

from gnnfast.benchmark.benchmark import BenchmarkResult as BenchmarkResult
from gnnfast.benchmark.benchmark import benchmark as benchmark
from gnnfast.benchmark.comparison import Comparison as Comparison
from gnnfast.benchmark.graphs import SIZES as SIZES
from gnnfast.benchmark.graphs import GraphFiles as GraphFiles
from gnnfast.benchmark.graphs import dataset_files as dataset_files
from gnnfast.benchmark.graphs import synthetic_files as synthetic_files
from gnnfast.benchmark.report import limits_lines as limits_lines
from gnnfast.benchmark.report import table as table
from gnnfast.benchmark.settings import BenchmarkSettings as BenchmarkSettings
