from __future__ import annotations

import pytest
import torch
import training_toys as toys


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Results are bitwise the same at an equal number of threads only; of a module's own fixtures this comes first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def toy(monkeypatch):
    """The class of the toy model, registered as a family."""
    toys.register(monkeypatch)
    return toys.Toy


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A small dataset, made once."""
    return toys.make_data(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture(scope="module")
def trainers(data, tmp_path_factory):
    """Trainers in processes of their own."""
    started = toys.Trainers(data.path, tmp_path_factory.mktemp("trainers"))
    yield started
    started.close()
