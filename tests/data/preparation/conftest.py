"""What is prepared here, and what has been."""

import number_files
import pytest
import toy_folders


@pytest.fixture
def source(tmp_path):
    return number_files.write(tmp_path / "raw")


@pytest.fixture
def root(tmp_path):
    toy_folders.write(tmp_path)
    return tmp_path
