"""How a run or a batch shows itself as the last line of a cell: live where a notebook can, else as a plain page."""

from __future__ import annotations

from collections.abc import Callable

from nbbatch.base.display import options


def display(it: object, live: Callable[[], bool], show: Callable[[], None]) -> None:
    """Do as ``nb.options.display`` says.

    Args:
        it: What is shown; its repr is the text.
        live: Whether anything in it still moves.
        show: Displays it live.

    Raises:
        NotImplementedError: IPython is to fall through to the plain page.
        ImportError: Live was asked for and the widgets are not installed.
    """
    how = options.shown()
    if how == "none":
        return
    if how == "text":
        print(repr(it))  # noqa: T201 - what was asked for
        return
    if how == "static" or not live():
        raise NotImplementedError
    try:
        from nbbatch.panel.widget import in_notebook
    except ImportError:
        if how == "live":
            raise
        raise NotImplementedError from None
    if not in_notebook():
        raise NotImplementedError
    show()
