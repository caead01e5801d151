"""What the metrics say of a GPU, with a driver that answers, lacks something, and falls silent."""

from math import isnan

import pytest

from app.telemetry import GPU_WORKER
from workers.gpu import device


class Driver:
    """NVIDIA's bindings: a device of which 3 of 80 units of memory are used, at 25 %."""

    def __init__(self):
        self.asked = []
        self.broken = set()

    def nvmlInit(self):
        self.asked.append("init")

    def nvmlDeviceGetHandleByUUID(self, name):
        self.asked.append(name)
        return name

    def nvmlDeviceGetMemoryInfo(self, handle):
        self._check("memory")
        return type("Memory", (), {"used": 3, "total": 80})

    def nvmlDeviceGetUtilizationRates(self, handle):
        self._check("utilisation")
        return type("Rates", (), {"gpu": 25})

    def _check(self, what):
        if what in self.broken:
            raise RuntimeError("Not Supported")


@pytest.fixture
def driver():
    return Driver()


def value(name, **labels):
    return GPU_WORKER.get_sample_value(f"stillmotion_gpu_{name}", labels)


def test_memory_and_utilisation_are_read_when_a_scrape_asks(driver):
    device.show_device(driver, "4c2f-one")
    assert driver.asked == ["init", "GPU-4c2f-one"], "as NVML names what torch calls 4c2f-one"
    assert value("memory_bytes", kind="used") == 3
    assert value("memory_bytes", kind="total") == 80
    assert value("utilisation_ratio", device="GPU-4c2f-one") == 0.25


def test_a_part_of_a_gpu_has_memory_and_no_utilisation(driver):
    driver.broken = {"utilisation"}
    device.show_device(driver, "MIG-7")
    assert value("memory_bytes", kind="used") == 3
    assert isnan(value("utilisation_ratio", device="MIG-7"))


def test_a_driver_that_falls_silent_takes_no_other_metric_along(driver):
    device.show_device(driver, "two")
    driver.broken = {"memory", "utilisation"}
    assert isnan(value("memory_bytes", kind="used"))
    assert (
        GPU_WORKER.get_sample_value("stillmotion_attempts_ended_total", {"outcome": "failed"}) == 0
    )


def test_a_driver_that_never_answers_is_an_error_to_log(driver):
    driver.broken = {"memory"}
    with pytest.raises(RuntimeError):
        device.show_device(driver, "three")


def test_without_torch_there_is_nothing_to_show(monkeypatch):
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    device.show()
