"""The command line: ``fourcastnet-afno VERB``.

Help, version and mistakes in the name of a verb need the table of verbs alone; everything else is
imported for the verb that runs.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from fourcastnet_afno.cli.last_net import guard, open_standard_streams
from fourcastnet_afno.cli.verbs import VERBS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 for errors that the doctor found; 2 for a mistake in the input; 70 for a defect of this
        package, which is recorded in a file; 75 for a run that the system has stopped and that
        should be started again; 130 for one that Ctrl-C has interrupted; 141 where nobody reads the
        output any more, as in ``| head``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_standard_streams()
    return guard(lambda: _run(words), words)


def _run(words: Sequence[str]) -> int:
    if words and words[0] in VERBS:
        from fourcastnet_afno.cli.run_verb import run_verb

        return run_verb(words[0], words[1:])
    if words and not words[0].startswith("-"):
        near = ", ".join(difflib.get_close_matches(words[0], VERBS, n=3) or VERBS)
        print(f"error: there is no verb {words[0]!r}; did you mean {near}?", file=sys.stderr)
        return 2
    width = max(map(len, VERBS))
    parser = argparse.ArgumentParser(
        prog="fourcastnet-afno",
        usage="%(prog)s VERB [--SETTING VALUE ...]",
        description="Train, roll out and score Adaptive Fourier Neural Operator surrogates. The "
        "verbs share one YAML file and one run folder; `VERB --help` lists the settings of a verb.",
        epilog="verbs:\n" + "\n".join(f"  {n:{width}}  {v.help}" for n, v in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("fourcastnet-afno"))
    parser.add_argument(
        "--print_completion",
        choices=("bash", "zsh"),
        help="print a script for the completion of verbs and settings by the tab key",
    )
    options = parser.parse_args(words)
    if options.print_completion is None:
        parser.error("give a verb, or --help")
    from fourcastnet_afno.cli.parser import completion

    print(completion(options.print_completion))
    return 0


if __name__ == "__main__":
    sys.exit(main())
