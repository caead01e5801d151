"""How the pages look. Screenshots for people are in pytest's temporary directory."""

import pytest

from tests.browser import steps
from tests.browser.steps import expect


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_help_fits_and_reads_well(visit, axe, tmp_path, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.get_by_role("link", name="Help").click()
    expect(page.get_by_role("heading", name="Five minutes to a clip")).to_be_visible()
    page.screenshot(path=tmp_path / f"help-{scheme}-{width}.png", full_page=True)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_studio_fits_and_reads_well(visit, api_key, photo, axe, tmp_path, scheme, width):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    expect(page.get_by_role("heading", name="Set a still picture in motion")).to_be_visible()

    def look(name):
        page.screenshot(path=tmp_path / f"{name}-{scheme}-{width}.png", full_page=True)
        assert axe(page) == []
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} px wide"

    look("sign-in")
    steps.sign_in(page, api_key)
    expect(page.get_by_text("Clips made with this key")).to_be_visible()
    look("empty")
    steps.submit(page, photo)
    expect(steps.state(page)).to_have_text("processing")
    look("processing")
    expect(steps.state(page)).to_have_text("succeeded")
    page.get_by_text("More options").click()
    look("done")


# axe needs a quarter of a minute for so long a page. Colours follow from the scheme alone, and what
# fits from the width alone, so two of the four show both.
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (360, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(360, "light", marks=pytest.mark.slow),
    ],
)
def test_the_reference_fits_and_reads_well(visit, axe, tmp_path, scheme, width):
    page = visit("/docs", color_scheme=scheme, viewport={"width": width, "height": 800})
    contents = page.get_by_role("navigation", name="Contents")
    contents.get_by_role("link", name="Codes").click()
    expect(page.get_by_role("heading", name="Codes", exact=True)).to_be_in_viewport()
    page.screenshot(path=tmp_path / f"codes-{scheme}-{width}.png")
    page.goto("/docs#submit_job")
    expect(page.get_by_role("heading", name="Submit a job")).to_be_in_viewport()
    page.screenshot(path=tmp_path / f"submit-{scheme}-{width}.png")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
