"""What every test shares: hypothesis draws the same examples in every run, however long a kernel takes to compile."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gnnfast", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("gnnfast")
