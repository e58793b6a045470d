import pytest
import yaml

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


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert TrainingSettings(devices=2).resolved_accelerator() == "cuda"
    with pytest.raises(ValueError, match=r"training\.devices=64 on this machine, but it has 2 GPU"):
        TrainingSettings(devices=64).resolved_accelerator()


def test_off_is_what_yaml_makes_of_it():
    assert TrainingSettings(memory_check=yaml.safe_load("off")).memory_check == "off"
