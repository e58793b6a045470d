import pytest

from gnnfast.training import TrainingSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, r"training\.epochs must be a positive integer"),
        ({"precision": "fp8"}, r"training\.precision must be one of 32-true"),
        ({"metric": "acc"}, r"training\.metric must be one of auto, accuracy"),
        ({"patience": 0}, r"training\.patience"),
        ({"evaluate_every": "often"}, r"training\.evaluate_every"),
        ({"gradient_clip": -1.0}, r"training\.gradient_clip"),
        ({"accumulate": True}, r"training\.accumulate"),
    ],
)
def test_values_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**wrong)


def test_loss_scaling_on_a_cpu_names_what_to_use_instead():
    with pytest.raises(ValueError, match="16-mixed needs a GPU: on a CPU use bf16-mixed"):
        TrainingSettings(precision="16-mixed", accelerator="cpu").resolved_accelerator()


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"training\.devices=64, but there (is|are) \d+ cpu device"):
        TrainingSettings(devices=64, accelerator="cpu").resolved_accelerator()
