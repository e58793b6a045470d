"""What every test shares."""

import torch
from hypothesis import HealthCheck, settings

# The same examples in every run, however long a kernel takes to compile.
settings.register_profile("gnnfast", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gnnfast")

# The tensors here are tiny: waiting for torch's other threads costs more than they compute, on a busy machine 10 ms.
torch.set_num_threads(1)
