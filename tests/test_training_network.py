"""The network of a training: its size, its precision, and no XLA on the CPU unless asked."""

import keras
import pytest
from training_standin import Batches, StandIn

from kzoo.training import TrainConfig, train
from kzoo.training.folder import accelerators
from kzoo.training.network import compile_for_training, image_size_of, precision_policy


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow can do without XLA")
@pytest.mark.parametrize(("asked", "compiled"), [("auto", bool(accelerators())), (False, False), (True, True)])
def test_xla_is_used_where_it_is_asked_for_or_an_accelerator_is_present(asked, compiled):
    network = StandIn()
    compile_for_training(network, TrainConfig(xla=asked), steps=1)
    assert bool(network.jit_compile) is compiled


def test_the_optimizer_is_built_before_the_first_step():
    network = StandIn()
    compile_for_training(network, TrainConfig(ema=0.9), steps=1)
    assert network.optimizer.built
    assert int(network.optimizer.iterations) == 0


def test_the_global_policy_is_restored_even_after_an_error():
    def fail():
        with precision_policy("mixed_bfloat16"):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("model", "asked", "size"),
    [
        ("ssd512", None, (512, 512)),
        ("ssd", None, (300, 300)),
        ("ssd512", 160, (160, 160)),
        ("ssd", (96, 128), (96, 128)),
    ],
)
def test_the_image_size_is_the_one_asked_for_or_the_model_s_own(model, asked, size):
    assert image_size_of(TrainConfig(model=model, image_size=asked), None) == size


def test_a_network_with_a_size_keeps_it():
    assert image_size_of(TrainConfig(model="stand_in"), StandIn()) == (8, 8)


def test_data_that_changed_since_is_warned_of_when_a_run_goes_on(tmp_path, capsys):
    run = train(StandIn(), Batches, run_dir=tmp_path, epochs=1, quiet=True)
    train(resume=run, data=lambda epoch: Batches(epoch, steps=2), epochs=2)
    assert "The training data has changed: 2 steps an epoch, 3 when the run stopped." in capsys.readouterr().out
    assert run.state["steps"] == 2
