"""Planted bugs inside a suite: `pytest --planted-bugs my_losses.py:simpo_loss --planted-objective simpo`.

After the tests have passed, they run once more for every planted bug of that objective, and what they do not notice is
listed.
"""

import os
from typing import Any

KEY = "planted_bugs_report"


def pytest_addoption(parser: Any) -> None:
    """Two options; nothing is loaded before they are used."""
    group = parser.getgroup("derivations", "planted bugs in losses")
    group.addoption(
        "--planted-bugs", metavar="PLACE", help="file.py:function or module:function whose tests are tested"
    )
    group.addoption("--planted-objective", metavar="NAME", help="the objective it should be, as for `conform`")
    group.addoption(
        "--planted-option", metavar="NAME=VALUE", action="append", default=[], help="as --option of `conform`"
    )
    group.addoption("--planted-map", metavar="THEIRS=OURS", action="append", default=[], help="as --map of `conform`")


def pytest_sessionfinish(session: Any, exitstatus: int) -> None:
    """Plant the bugs, if the tests pass without."""
    config = session.config
    place = config.getoption("--planted-bugs")
    if not place or exitstatus != 0 or os.environ.get("PLANTED_BUG") or hasattr(config, "workerinput"):
        return
    import pytest

    from derivations.cli.errors import InputError
    from derivations.conformance import prepared
    from derivations.conformance.commands import given_options
    from derivations.conformance.loading import load
    from derivations.conformance.mutation import as_text, mutate

    objective = config.getoption("--planted-objective")
    if not objective:
        raise pytest.UsageError("--planted-bugs needs --planted-objective, the name of what the function should be")
    try:
        options, mapping = given_options(
            objective, config.getoption("--planted-option"), config.getoption("--planted-map"), prefix="--planted-"
        )
        subject = prepared(load(place), objective, options=options, mapping=mapping)
        report = mutate(place, subject, _without_ours(config.invocation_params.args))
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    setattr(config, KEY, as_text(report))
    if not report.ok:
        session.exitstatus = 1


def _without_ours(arguments: Any) -> list[str]:
    """The command line without the options of this plugin."""
    kept, skip = [], False
    for word in map(str, arguments):
        if skip:
            skip = False
        elif word.startswith("--planted-"):
            skip = "=" not in word
        else:
            kept.append(word)
    return kept


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """What survives, at the end."""
    if hasattr(config, KEY):
        terminalreporter.section("planted bugs")
        terminalreporter.write(getattr(config, KEY))
