"""The command line: a thin face over the library. Heavy packages load inside the commands, so that help is instant."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kzoo.cli import console, data, demo, evaluate, export, models, predict, proposals, train

app = typer.Typer(
    name="kzoo",
    help="Classic object detectors in Keras: train on your data, measure, and get a file for the phone.\n\n"
    "Begin with [bold]kzoo demo[/] or [bold]kzoo check DATA[/].",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "demo": demo.demo,
    "models": models.models,
    "check": data.check,
    "proposals": proposals.proposals,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "export": export.export,
    "benchmark": export.benchmark,
}
for _name, _command in COMMANDS.items():
    app.command(_name, no_args_is_help=_name not in ("demo", "models"))(_command)


def _version(wanted: bool) -> None:
    if wanted:
        import kzoo

        console.say(f"kzoo {kzoo.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and TensorFlow's own messages.")] = False,
) -> None:
    """`--debug` is taken out of the arguments before they are parsed, so that it may stand anywhere."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    0: done; 1: a fault of kzoo, or a finding of `check --strict`; 2: a fault of the input; 130: interrupted.
    """
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Runs the command line and returns the exit code. No exception escapes but those that `--debug` asks for."""
    debug = "--debug" in arguments
    arguments = [one for one in arguments if one != "--debug"]
    if debug:
        os.environ["KZOO_DEBUG"] = "1"
    else:
        os.environ.pop("KZOO_DEBUG", None)
        console.quiet_tensorflow()
    try:
        result = app(arguments, standalone_mode=False, prog_name="kzoo")
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        console.err.print("[yellow]stopped[/]")
        return 130
    except BrokenPipeError:  # the reader of a pipe has left, as `kzoo models | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug and not hasattr(error, "format_message"):
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Says in one line what is wrong, and returns the exit code."""
    if hasattr(error, "format_message"):  # a fault of the arguments, found by the parser
        text = _with_nearest(error.format_message())
        context = getattr(error, "ctx", None)
        if text:  # empty where there are no arguments at all: the parser has printed the help
            path = context.command_path if context is not None else "kzoo"
            console.error(f"{text if text.endswith(('.', '?')) else text + '.'} See: {path} --help")
        return getattr(error, "exit_code", 2)
    if type(error).__name__ == "Abort":
        return 130
    if isinstance(error, ValueError | OSError | ImportError) or type(error).__name__ == "TrainingDiverged":
        console.error(str(error) or type(error).__name__)
        return 2
    console.error(f"{type(error).__name__}: {error} (a fault of kzoo; run the command again with --debug to see where)")
    return 1


def _with_nearest(text: str) -> str:
    """The parser's message; about an unknown command in our own words, which older parsers lack."""
    from kzoo import messages

    unknown = re.match(r"No such command '(.*?)'", text)
    return messages.unknown_name("command", unknown.group(1), COMMANDS) if unknown else text
