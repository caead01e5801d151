"""The pages in a real Chromium, on a whole service whose worker waits instead of rendering.

If Chromium, Playwright or axe-core is missing, tests are skipped, or fail if CI is set.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from app.store import keys
from tests.browser import WAIT_MS
from tests.support import make, services
from tests.support.fleet import Fleet
from tests.support.fleet import fleet as make_fleet

STEPS = 8
STEP_S = 0.3
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

# The tests import it. In CI a missing package must be an error.
if importlib.util.find_spec("playwright") is None and not os.environ.get("CI"):
    collect_ignore_glob = ["test_*.py"]


@dataclass(frozen=True)
class Site:
    """A service with one worker in us-east; a clip takes STEPS steps of STEP_S."""

    url: str
    fleet: Fleet


# Not session-wide: its worker and dispatcher would interfere with tests of other packages.
@pytest.fixture(scope="package")
def _site(session_settings, _shared_store, tmp_path_factory) -> Iterator[Site]:
    port = services.free_port()
    config = session_settings.model_copy(
        update={
            "public_url": f"http://127.0.0.1:{port}",
            "flower_url": "http://127.0.0.1:5555",
            "served_profiles": ("noop",),
            "model_profile": "noop",
            "model_steps": STEPS,
            "noop_step_s": STEP_S,
        }
    )
    directory = tmp_path_factory.mktemp("site")
    with (
        services.gunicorn(config) as url,
        make_fleet(config, _shared_store, directory) as fleet,
    ):
        fleet.dispatcher()
        fleet.worker().wait_ready()
        yield Site(url, fleet)


@pytest.fixture
def site(_site, settings) -> Site:
    """The service. Its stores are empty except for the picture of `make.submit`."""
    _site.fleet.objects.put(make.INPUT_KEY, b"a noop worker does not look at it", "image/jpeg")
    return _site


@pytest.fixture
def admin_key(store) -> str:
    with store.begin() as tx:
        return keys.create(tx, "on call", ("jobs", "admin"))[1]


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    services.need("chromium", chromium)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, site) -> Iterator:
    """Open pages as a new visitor: `visit("/", color_scheme="dark")`.

    Console errors, including policy violations, fail the test at its end.
    """
    contexts, console_errors = [], []

    def open_page(path: str = "/", **options):
        options = {"viewport": {"width": 1280, "height": 900}} | options
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: console_errors.append(str(error)))
        page.on(
            "console",
            # Failed requests are for the test itself to check.
            lambda message: (
                message.type == "error"
                and not message.text.startswith("Failed to load resource")
                and console_errors.append(message.text)
            ),
        )
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert console_errors == []


@pytest.fixture
def axe():
    """A function that lists axe-core's serious and critical violations on a page."""
    services.need("axe-playwright-python", importlib.util.find_spec("axe_playwright_python"))
    from axe_playwright_python.sync_playwright import Axe

    def serious(page) -> list[str]:
        found = Axe().run(page).response["violations"]
        return [
            f"{violation['id']}: {node['html']} {node['failureSummary']}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    return serious
