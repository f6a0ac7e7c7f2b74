"""What tests of the commands share."""

from kzoo import cli


def fails(capsys, *arguments, code=2):
    """Runs a command that must fail with one line on stderr, and returns that line."""
    assert cli.run([str(one) for one in arguments]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]
