"""What the installed llama.cpp says that it computes on."""

from pathlib import Path

from flex_assist.engine import devices


def test_the_processor_is_always_there() -> None:
    assert "CPU" in devices.backends()
    found = devices.devices()
    assert any(not device.gpu and device.total_bytes > 1e8 for device in found)
    assert all(device.free_bytes <= device.total_bytes for device in found)


def test_a_model_loads_whatever_is_wanted(starter: Path) -> None:
    gpus = [device for device in devices.devices() if device.gpu]
    for wanted in (-1, 0, 3):
        model, layers = devices.load(starter, wanted, 256)
        assert layers in ((-1,) if gpus and wanted < 0 else (wanted,) if gpus else (0, wanted))
        assert model.facts().architecture == "llama"
        model.close()


def test_the_starter_tells_its_shape(starter: Path) -> None:
    model, _ = devices.load(starter, 0, 256)
    shape = devices.shape_of(model.metadata, starter.stat().st_size)
    model.close()
    assert shape is not None
    # 30 layers, 3 KV heads of 64 numbers.
    assert (shape.layers, shape.kv_bytes) == (30, 3 * 64 * 4)
