import pytest
from download_server import Publisher, serving


@pytest.fixture
def publisher():
    with serving(Publisher()) as running:
        yield running
