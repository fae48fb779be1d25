"""Every test runs on one thread: more threads than cores slow PyTorch down tenfold, and sums in another order."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh_global_generator():
    """A test that forgets its generator is at least the same in any order of the tests."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
