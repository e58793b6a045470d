import subprocess
import sys
from time import perf_counter

from tests.cli.command import gnnfast


def test_help_names_the_commands_in_under_a_second(tmp_path):
    seconds = []
    for _ in range(3):
        started_at = perf_counter()
        run = subprocess.run(
            [sys.executable, "-m", "gnnfast.cli.main", "--help"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        seconds.append(perf_counter() - started_at)

    assert all(command in run.stdout for command in ("train", "evaluate", "predict"))
    assert min(seconds) < 1


def test_help_imports_nothing_heavy(tmp_path):
    program = (
        "import sys\n"
        "from gnnfast.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'hydra', 'numba', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert run.stdout.splitlines()[-1] == "[]"


def test_a_mistyped_command_is_answered_with_the_nearest(tmp_path):
    run = gnnfast("trian", folder=tmp_path)

    assert run.exit_code == 2
    assert run.stderr == "gnnfast: 'trian' is not a command: did you mean 'train'?\n"


def test_help_of_a_command_lists_its_groups(tmp_path):
    run = gnnfast("train", "--help", folder=tmp_path)

    assert run.exit_code == 0
    assert "gnnfast train is powered by Hydra" in run.stdout
    assert "model: gat, gatv2, gcn, gin, lightgcn, sage" in run.stdout
