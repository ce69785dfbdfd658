"""The command `msafusion predict`, called here."""

import io
import sys

import pytest

from msafusion import cli


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, stdin=""):
        """Status or the line of the error, standard output, standard error."""
        monkeypatch.setattr(sys, "argv", ["msafusion", "predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call
