"""One JupyterLab, one Chromium and one page for all tests here; a notebook of its own for each test.

Left out where Chromium, Playwright or JupyterLab are missing, unless NBBATCH_BROWSER=required.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbbatch.panel import front

NOTEBOOK = importlib.util.find_spec("notebook") is not None
"""Whether the server has Notebook 7 too."""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false",
    },
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}  # fmt: skip
LOCAL = re.compile(r"((https?|wss?)://(127\.0\.0\.1|localhost)[:/])|data:|blob:|about:")
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SHOTS = ROOT / "build" / "screenshots"
"""Pictures of what the tests saw."""


def _missing() -> str:
    absent = [
        name
        for name in ("playwright", "jupyterlab", "voila", "anywidget", "axe_playwright_python")
        if importlib.util.find_spec(name) is None
    ]
    return ", ".join(absent + ([] if CHROMIUM else ["chromium"]))


MISSING = _missing() if os.environ.get("NBBATCH_BROWSER") != "required" else ""
collect_ignore_glob = ["*.py"] if MISSING else []  # they import what is missing


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if MISSING:
        terminalreporter.write_line(f"browser tests were left out, without {MISSING}: pip install nbbatch[browser]")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.timeout(180))
        # what asyncio and sockets of the browser's driver leave to the collector is not ours
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


if not MISSING:
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)  # on a machine that is busy five seconds say nothing


class Server:
    """JupyterLab or Voila on loopback, with folders of its own."""

    def __init__(self, home: Path, root: Path, program: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.root, self.token = root, "t" * 16
        labconfig = home / "config" / "labconfig"
        labconfig.mkdir(parents=True)
        (labconfig / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
        folders = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        }  # fmt: skip
        env = os.environ | {name: str(home / folder) for name, folder in folders.items()}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        env.pop("NBBATCH_DISPLAY", None)
        self.log = home / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self._command(program)],
                env=env,
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await(f"{self.url}/api/status?token={self.token}" if program == "lab" else f"{self.url}/")

    def _command(self, program: str) -> list[str]:
        if program == "voila":
            return [
                sys.executable, "-m", "voila", "--no-browser", f"--port={self.port}", "--Voila.ip=127.0.0.1",
                "--progressive_rendering=True", str(self.root),
            ]  # fmt: skip
        return [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={self.port}",
            "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}", f"--IdentityProvider.token={self.token}",
            "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None", "--ServerApp.terminals_enabled=False",
            *(["--JupyterNotebookApp.expose_app_in_browser=True"] if NOTEBOOK else []),
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _await(self, probe: str) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(probe, timeout=2).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)  # its own session: only what was started here
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Lab:
    """The page on JupyterLab, and what a test does there."""

    kind = "lab"

    def __init__(self, server: Server, page: Any, outside: list[str], console: list[str]) -> None:
        self.server, self.page, self.outside, self.console = server, page, outside, console

    def command(self, name: str, arguments: dict[str, Any] | None = None, *, wait: bool = False) -> None:
        """Run a command of JupyterLab; what it gives cannot cross to Python."""
        call = "window.jupyterapp.commands.execute(n, a)"
        self.page.evaluate(f"async ([n, a]) => {{ {'await ' if wait else ''}{call}; }}", [name, arguments or {}])

    def open(self, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        if self.page.url.startswith("http") and "/lab" in self.page.url:
            self.command("docmanager:open", {"path": name}, wait=True)
        else:
            self.load(name)
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell")
        self.wait_idle()

    def load(self, name: str) -> None:
        """Load the whole page anew with this notebook."""
        self.page.goto(f"{self.server.url}/lab/workspaces/auto-t/tree/{name}?token={self.server.token}&reset")
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-cell")
        self.wait_idle()

    def wait_idle(self) -> None:
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
        )

    def run(self, name: str, *cells: str) -> Path:
        """A notebook of these cells, opened, and all its cells run."""
        import nbformat
        from nbformat.v4 import new_code_cell, new_notebook

        path = self.server.root / f"{name}.ipynb"
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(metadata=kernel, cells=[new_code_cell(cell) for cell in cells]), path)
        self.open(path.name)
        self.command("notebook:run-all-cells")
        return path

    @property
    def panel(self) -> Any:
        """The panel on the page."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .nbc").first

    def shoot(self, name: str, locator: Any = None) -> None:
        """Keep a picture of what is to be seen."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        (locator or self.panel).screenshot(path=str(SHOTS / f"{name}.png"))

    def ask(self, expression: str) -> str:
        """What an expression gives in the kernel, as its repr."""
        return self.page.evaluate(
            """async (expression) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute({ code: "", store_history: false, user_expressions: { it: expression } });
                return (await future.done).content.user_expressions.it.data["text/plain"];
            }""",
            expression,
        )

    def restart(self) -> None:
        """End the kernel and start another."""
        self.command("kernelmenu:restart")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    def leave(self) -> None:
        """Close the notebook and end its kernel."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget?.sessionContext?.shutdown()")
        self.command("docmanager:save", wait=True)
        self.command("application:close", wait=True)


class Notebook(Lab):
    """The page on Notebook 7, which shows one notebook."""

    kind = "notebook"

    def open(self, name: str) -> None:
        self.load(name)

    def load(self, name: str) -> None:
        self.page.goto(f"{self.server.url}/notebooks/{name}?token={self.server.token}")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Notebook-cell")
        self.wait_idle()
        self.console.clear()  # what its own start has to say is not the panel's

    def leave(self) -> None:
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget?.sessionContext?.shutdown()")
        self.page.goto("about:blank")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """Of this package alone: its driver keeps an event loop running, in which other tests could not run theirs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


def watched(browser: Any, outside: list[str], console: list[str]) -> Any:
    """A page that writes down what leaves loopback (it does not get there) and what goes wrong."""
    context = browser.new_context(viewport={"width": 1180, "height": 1080})
    context.set_default_timeout(30_000)
    context.route(lambda url: not LOCAL.match(url), lambda route: route.abort())
    page = context.new_page()
    page.on("request", lambda request: LOCAL.match(request.url) or outside.append(request.url))
    page.on("console", lambda said: said.type == "error" and console.append(f"{said.text} {said.location['url']}"))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    return page


@pytest.fixture(scope="package")
def one_lab(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    server = Server(tmp_path_factory.mktemp("jupyter"), tmp_path_factory.mktemp("notebooks"), "lab")
    try:
        outside: list[str] = []
        console: list[str] = []
        yield Lab(server, watched(chromium, outside, console), outside, console)
    finally:
        server.stop()


def used(front: Lab, test: str) -> Iterator[Lab]:
    """It for one test, which may leave neither an error in the console nor loopback."""
    front.console.clear()
    yield front
    front.shoot(f"last-{test}", front.page)
    console = list(front.console)  # what comes after the kernel was ended is not the panel's
    front.leave()
    assert front.outside == []
    assert console == []


@pytest.fixture
def lab(one_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """JupyterLab for one test."""
    yield from used(one_lab, request.node.name)


@pytest.fixture(scope="package")
def one_notebook(chromium: Any, one_lab: Lab) -> Iterator[Notebook]:
    outside: list[str] = []
    console: list[str] = []
    page = watched(chromium, outside, console)
    yield Notebook(one_lab.server, page, outside, console)
    page.context.close()


@pytest.fixture(params=["lab", "notebook"])
def front_end(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """JupyterLab and Notebook 7, each for one test."""
    if request.param == "notebook" and not NOTEBOOK and os.environ.get("NBBATCH_BROWSER") != "required":
        pytest.skip("Notebook 7 is not installed: pip install nbbatch[browser]")
    yield from used(request.getfixturevalue(f"one_{request.param}"), request.node.name)


@pytest.fixture(scope="package")
def browser_page(chromium: Any) -> Iterator[Any]:
    """A page without Jupyter, that reaches nothing but loopback."""
    outside: list[str] = []
    page = watched(chromium, outside, [])
    yield page
    page.context.close()
    assert outside == []


def violations(page: Any, where: str) -> list[str]:
    """What axe-core finds there that is serious or critical, as "rule: markup"."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=where).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


BARE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>nbbatch</title><style>{css} body {{ margin: 16px; font-family: system-ui, sans-serif; }}</style></head>
<body><main id="here"></main><script type="module">
{esm}
const listeners = {{}};
window.sent = [];
window.model = {{
  shown: {shown},
  get: (name) => (name === "shown" ? window.model.shown : window.model.shown[name]),
  on: (name, call) => (listeners[name] ??= []).push(call),
  off: () => {{}},
  send: (message) => window.sent.push(message),
  put: (shown) => {{ window.model.shown = shown; window.model.fire("change:shown"); }},
  fire: (name) => listeners[name].forEach((call) => call()),
}};
panel.render({{ model: window.model, el: document.getElementById("here") }});
</script></body></html>"""


class Bare:
    """A panel on a page of its own: the page side of the widget beside a session, without Jupyter between them."""

    def __init__(self, page: Any, session: Any) -> None:
        self.page, self.session = page, session
        esm = front.PANEL.replace("export default { render };", "const panel = { render };")
        shown = json.dumps(session.step()).replace("</", "<\\/")
        page.set_content(BARE.format(css=front.CSS, esm=esm, shown=shown))
        page.wait_for_selector(".nbc-facts:not(:empty)")

    @property
    def panel(self) -> Any:
        return self.page.locator(".nbc")

    def answer(self) -> None:
        """Give the session what the page sent, and the page what the session shows."""
        for message in self.page.evaluate("window.sent.splice(0)"):
            self.session.ask(message)
        shown = self.session.step()
        self.page.evaluate("shown => window.model.put(shown)", shown)
        self.page.evaluate("() => new Promise(requestAnimationFrame)")

    def open(self, tab: str) -> None:
        self.panel.get_by_role("tab", name=re.compile(tab)).click()
        self.answer()
