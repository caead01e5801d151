"""The Studio as people use it: from a picture to a playing clip, and what goes wrong on the way."""

import io
import re

import httpx
import pillow_heif
import pytest
from PIL import Image

from app.public.present import present_understood
from app.store import keys
from tests.browser import steps
from tests.browser.steps import expect
from tests.support import make
from tests.support.calls import rows_in
from tests.support.pictures import encode

PLAYS = "video => !video.paused && video.currentTime > 0.05 && video.muted && video.loop"

SEED = "9007199254740993"  # 2**53 + 1, which JavaScript's numbers cannot represent
COLLECT_TEXTS = """() => {
    const text = document.getElementById("stage-text"), seen = window.seen = new Set();
    new MutationObserver(() => seen.add(text.textContent.split(" · ")[0]))
        .observe(text, { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture
def studio(visit, api_key):
    """The Studio, signed in."""

    def open_studio(**options):
        page = visit(**options)
        steps.sign_in(page, api_key)
        return page

    return open_studio


def clip(page):
    return page.get_by_label("Clip: gentle waves")


def test_a_picture_becomes_a_clip_that_plays_next_to_it(studio, photo):
    page = studio()
    page.get_by_text("More options").click()
    page.get_by_label("Seed").fill(SEED)
    steps.submit(page, photo)
    expect(page.locator("#stage-text")).to_contain_text("of 8")
    expect(page.locator("#stage-progress")).to_have_attribute("max", "8")
    expect(steps.state(page)).to_have_text("succeeded")
    expect(page.get_by_role("img", name="The picture", exact=True)).to_be_visible()
    page.wait_for_function(PLAYS, arg=clip(page).element_handle())
    assert clip(page).get_attribute("playsinline") is not None
    expect(page.locator("#stage-facts")).to_contain_text(SEED)

    page.reload()  # session and job are still there
    page.get_by_role("button", name="Open: gentle waves, succeeded").click()
    expect(clip(page)).to_be_visible()


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("asdf qwer", "no motion words known: ambient"),
        (
            "gently pan left, the helmet sways asdf",
            "sway of the subject, pan left, gentle; ignored: asdf",
        ),
        ("she blinks, waves", "This model cannot make faces blink."),
    ],
)
def test_the_result_says_what_of_the_prompt_counts(studio, photo, prompt, line):
    """The pages' deployment serves a model that takes free text, so the answer says more here."""
    page = studio()
    understood = present_understood("motion-small", prompt).model_dump(mode="json")

    def answer(route):
        response = route.fetch()
        job = response.json()
        if "prompt_understood" in job:
            assert job["prompt_understood"] is None
            job["prompt_understood"] = understood
        route.fulfill(response=response, json=job)

    page.route(re.compile(r"/v1/jobs(/[0-9a-f-]{36})?$"), answer)
    page.route("**/events", lambda route: route.abort())
    steps.submit(page, photo)
    expect(page.locator("#stage-facts")).to_contain_text(line)
    page.unroute_all(behavior="ignoreErrors")  # one may be under way, and outlive the page


def test_a_model_of_free_text_says_nothing_of_words(studio, photo):
    page = studio()
    steps.submit(page, photo)
    expect(page.locator("#stage-facts")).to_contain_text("Prompt")
    expect(page.locator("#stage-facts")).not_to_contain_text("Understood")


def test_the_time_left_goes_on_falling_between_two_steps(studio, photo):
    """Steps may be many seconds apart; here the API says nothing new at all."""
    page = studio()
    frozen = {}

    def answer(route):
        if not frozen:
            frozen.update(route.fetch().json(), state="processing", queue=None, eta_seconds=4.2)
            frozen["progress"] = {"step": 1, "steps": 8}
        route.fulfill(json=frozen)

    page.route(re.compile(r"/v1/jobs/[0-9a-f-]{36}$"), answer)
    page.route("**/events", lambda route: route.abort())
    steps.submit(page, photo)
    told = page.locator("#stage-text")
    expect(told).to_contain_text("Step 1 of 8 · about 4 s left")
    expect(told).to_contain_text("about 2 s left")
    expect(told).to_contain_text("taking longer than expected")


def test_a_job_is_canceled_mid_render(studio, store, photo):
    page = studio()
    steps.submit(page, photo)
    expect(page.locator("#stage-text")).to_contain_text("Step")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(steps.state(page)).to_have_text("canceled")
    expect(page.get_by_role("button", name="Open: gentle waves, canceled")).to_be_visible()
    with store.autocommit() as conn:
        states = conn.exec_driver_sql("SELECT state FROM jobs").scalars().all()
    assert states == ["canceled"]


def test_a_bad_picture_is_reported_next_to_it(studio, photo, store):
    page = studio()
    page.get_by_role("button", name="Animate").click()
    expect(page.locator("#image-error")).to_have_text("Choose a picture first.")

    steps.choose(page, b"Dear diary", name="diary.jpg")
    expect(page.locator("#image-error")).to_contain_text("“diary.jpg” is not a picture")

    # A browser shows a truncated picture, but the API refuses it.
    steps.choose(page, photo[: len(photo) // 2])
    expect(page.get_by_role("img", name="The chosen picture")).to_be_visible()
    page.get_by_role("button", name="Animate").click()
    expect(page.locator("#image-error")).not_to_be_empty()
    expect(page.locator("#pick")).to_be_focused()
    assert rows_in(store) == 0


def test_a_picture_that_the_browser_cannot_show_is_animated_all_the_same(studio, photo):
    pillow_heif.register_heif_opener()
    heic = encode(Image.open(io.BytesIO(photo)).resize((150, 100)), "HEIF")
    page = studio()
    steps.choose(page, heic, name="photo.HEIC", mime="")
    expect(page.locator("#pick-label")).to_have_text("photo.HEIC")
    page.get_by_role("button", name="Animate").click()
    expect(steps.state(page)).to_be_visible()
    expect(page.get_by_role("img", name="The picture", exact=True)).not_to_be_attached()


def test_a_field_that_the_api_refuses_is_named(studio, photo):
    page = studio()
    steps.choose(page, photo)
    page.get_by_text("More options").click()
    page.get_by_label("Seed").fill("lucky")
    page.get_by_role("button", name="Animate").click()
    expect(page.locator("#seed-error")).to_contain_text("integer")
    expect(page.get_by_label("Seed")).to_be_focused()


def test_a_lost_connection_is_shown_and_costs_nothing(studio, photo, store):
    page = studio()
    steps.submit(page, photo)
    expect(page.locator("#stage-text")).to_contain_text("Step")
    page.context.set_offline(True)
    expect(page.get_by_text("Connection lost.")).to_be_visible()
    page.get_by_role("button", name="Animate").click()  # another job, while offline
    expect(page.get_by_role("button", name="Waiting for the connection…")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_text("Connected again.")).to_be_visible()
    expect(steps.state(page)).to_have_text("succeeded")
    assert rows_in(store) == 2
    expect(page.get_by_role("button", name="Open: gentle waves, succeeded")).to_have_count(2)


def test_the_keyboard_is_enough(visit, api_key, photo):
    page = visit()
    # From now on the browser reports choosers. Told at the key itself, it may open one unreported.
    page.on("filechooser", lambda _: None)
    press = page.keyboard.press
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(api_key)
    press("Enter")
    expect(page.locator("#main")).to_be_focused()
    press("Tab")
    expect(page.locator("#pick")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        press("Space")
    chooser.value.set_files([{"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photo}])
    press("Tab")
    page.keyboard.type("gentle waves")
    for _ in range(20):
        press("Tab")
        if page.locator("#submit").evaluate("button => button === document.activeElement"):
            break
    press("Enter")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    expect(page.locator("#submit")).to_be_focused()
    press("Tab")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_focused()
    expect(page.locator("#stage-text")).to_contain_text("Step")
    press("Enter")  # the focus survived the steps in between
    expect(steps.state(page)).to_have_text("canceled")


def test_a_shared_link_needs_no_key(studio, photo):
    page = studio(permissions=["clipboard-read", "clipboard-write"])
    steps.submit(page, photo)
    expect(steps.state(page)).to_have_text("succeeded")
    page.get_by_role("button", name="Copy link", exact=True).click()
    expect(page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
    shared = httpx.get(page.evaluate("navigator.clipboard.readText()"))
    assert (shared.status_code, shared.headers["content-type"]) == (200, "video/mp4")


def test_less_motion_is_respected(studio, photo):
    page = studio(reduced_motion="reduce")
    steps.submit(page, photo)
    expect(clip(page)).to_be_visible()
    page.wait_for_function("video => video.readyState >= 2", arg=clip(page).element_handle())
    assert clip(page).evaluate("video => video.paused && video.controls")


def test_a_wrong_key_is_refused_and_a_revoked_one_ends_the_session(visit, store):
    page = visit()
    page.get_by_label("API key").fill("sm_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#sign-in-error")).to_have_text("The API key is unknown or revoked.")

    with store.begin() as tx:
        key_id, plain = keys.create(tx, "short-lived")
    steps.sign_in(page, plain)
    [cookie] = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and plain not in cookie["value"]
    make.submit(store, key_id, home_region="eu-west", policy="strict")  # no worker serves it
    page.reload()
    page.get_by_role("button", name="Open: Gentle motion, queued").click()
    expect(page.locator("#stage-text")).to_have_text("No worker serves this model now")
    with store.begin() as tx:
        keys.revoke(tx, key_id)
    ended = "The session has ended; sign in again."
    expect(page.locator("#sign-in-error")).to_have_text(ended)
    expect(page.get_by_role("heading", name="Your clips")).not_to_be_visible()


def test_events_show_every_step(studio, photo):
    """Polling sees one step a second."""
    page = studio()
    streams = []
    page.on("request", lambda sent: sent.url.endswith("/events") and streams.append(sent))
    page.evaluate(COLLECT_TEXTS)
    steps.submit(page, photo)
    expect(steps.state(page)).to_have_text("succeeded")
    assert streams
    seen = page.evaluate("[...window.seen]")
    assert len([text for text in seen if text.startswith(("Step", "Writing"))]) >= 7, seen


def test_deleting_a_clip_asks_for_confirmation(studio, photo):
    page = studio()
    steps.submit(page, photo)
    expect(steps.state(page)).to_have_text("succeeded")
    delete = page.get_by_role("button", name="Delete", exact=True).first
    delete.click()
    page.get_by_role("button", name="Keep it").click()
    delete.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Clips made with this key")).to_be_visible()
    expect(page.get_by_text("Nothing here yet.")).to_be_visible()
