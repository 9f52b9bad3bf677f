import pytest
import torch


def pytest_collection_modifyitems(items):
    """Slow tests begin first, or one of them would go on alone when all others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collectstart(collector):
    """The networks that a file of tests builds as it is imported are the same in every process."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
