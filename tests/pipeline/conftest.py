"""What tests of whole runs share."""

import pytest

from brenier.cli import main


@pytest.fixture
def command(capsys):
    """Runs the command: exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return ended.value.code, *capsys.readouterr()

    return run
