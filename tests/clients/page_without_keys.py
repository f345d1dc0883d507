"""The page of a gateway without keys, in a real browser: nobody is asked. Argument: address of the gateway."""

import shutil
import sys

from playwright.sync_api import expect, sync_playwright

[URL] = sys.argv[1:]
# A busy machine is slow.
expect.set_options(timeout=30_000)
program = shutil.which("chromium")
assert program, "chromium is missing: run tests/setup"
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
    page = browser.new_page()
    complaints = []
    page.on("console", lambda said: said.type in ("error", "warning") and complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(URL + "/")
    expect(page.locator("#verdict")).to_have_text("All is well")
    expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
    # The way by keyboard: the name, then the views, then what is in them.
    for name in ["Lapidary", "Overview", "Dead letters"]:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("No dead letters")).to_be_visible()
    assert complaints == [], complaints
    browser.close()
print("all was seen", flush=True)
