"""A person at the page, in a real browser: signs in, watches a batch, looks at results, brings a dead job back.

Arguments: address of the gateway, a key of its operator, a key of another tenant that only reads, a picture's
folder (with expected.json), a folder for screenshots. Says lines that the test waits for, and waits for what the
test does then.
"""

import base64
import contextlib
import json
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

URL, OPERATOR, STRANGER, PICTURES, SHOTS = sys.argv[1:6]
MODEL = "demonstration"
EXPECTED = json.loads((Path(PICTURES) / "expected.json").read_text())
PROMPT = (
    "Write a caption for this image: one or two sentences that say what it shows. Answer with the caption alone."
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
# A busy machine is slow.
expect.set_options(timeout=60_000)

# What is hard to read: texts whose colour is too near to what is behind them (WCAG 2.2, AA).
FAINT = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const behind = (element) => {
    if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg,script,noscript")) continue;
    const ground = behind(element);
    const [a, b] = [light(over(parse(style.color), ground)), light(ground)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.6 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (isLarge ? 3 : 4.5)) faint.push(`${texts.currentNode.data.trim()}: ${style.color}`);
  }
  return faint;
}"""

# What has no name for those who do not see it.
NAMELESS = """() => [...document.querySelectorAll("a, button, input, textarea, img, svg[role=img], [role=progressbar]")]
  .filter((element) => element.checkVisibility())
  .filter((element) => !(element.textContent.trim() || element.getAttribute("aria-label") || element.labels?.length
    || element.hasAttribute("alt")))
  .map((element) => element.outerHTML)"""


def ask(method, path, key, body=None, kind="application/json"):
    """Status and JSON of an answer."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": kind, "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(URL + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def asked(name, more=b""):
    """A request about a picture. What follows a picture in its file is not looked at, so with more it is the same
    one, and large."""
    picture = (Path(PICTURES) / name).read_bytes() + more
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    return {"messages": [{"role": "user", "content": parts}], "temperature": 0}


def batch(name, names, times):
    """A batch of pictures so many times; one of them is so large that it goes through the media store."""
    more = {"00.png": bytes(50_000)}
    lines = [
        {"custom_id": f"{number}/{name}", "method": "POST", "url": "/v1/chat/completions",
         "body": {**asked(name, more.get(name, b"")), "model": MODEL}}
        for number in range(times) for name in names
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    head = (
        '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
    )
    form = (head + text + "\r\n--x--\r\n").encode()
    status, file = ask("POST", "/v1/files", OPERATOR, form, "multipart/form-data; boundary=x")
    assert status == 200, file
    wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h",
              "metadata": {"name": name}}
    status, made = ask("POST", "/v1/batches", OPERATOR, wanted)
    assert status == 200, made
    return made["id"], made["request_counts"]["total"]


def large(batch):
    """A result whose picture went through the media store, and that picture's reference."""
    status, latest = ask("GET", f"/v1/batches/{batch}/latest?limit=100", OPERATOR)
    assert status == 200 and len(latest["data"]) == 100, latest
    found = [(one["id"], picture) for one in latest["data"] for picture in one["pictures"]]
    return next((result, picture) for result, picture in found if picture.startswith("media:"))


def say(line):
    print(line, flush=True)


class Person:
    def __init__(self, browser):
        self.context = browser.new_context(viewport=DESKTOP, color_scheme="light")
        self.page = self.context.new_page()
        self.complaints, self.strangers = [], []
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self.requested)

    def requested(self, request):
        if not request.url.startswith((URL + "/", "blob:", "data:")):
            self.strangers.append(request.url)

    def shot(self, name, scheme="light", size=DESKTOP):
        """A picture of the whole view, which must be readable and fit its width."""
        page = self.page
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
        assert page.evaluate(FAINT) == [], (name, page.evaluate(FAINT))
        assert page.evaluate(NAMELESS) == [], (name, page.evaluate(NAMELESS))
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{name} is {width} wide"
        page.set_viewport_size(DESKTOP)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")

    def shots(self, name):
        self.shot(name)
        self.shot(f"{name}-dark", "dark")
        self.shot(f"{name}-phone", size=PHONE)
        self.shot(f"{name}-phone-dark", "dark", PHONE)

    @contextlib.contextmanager
    def refused(self, status):
        """One request is refused meanwhile, of which the browser itself complains."""
        with self.page.expect_console_message(lambda said: str(status) in said.text):
            yield
        assert len(self.complaints) == 1, self.complaints
        self.complaints.clear()

    def sign_in(self, key):
        """By keyboard: the field has the focus."""
        expect(self.page.get_by_label("API key")).to_be_focused()
        self.page.keyboard.type(key)
        self.page.keyboard.press("Enter")

    def row(self, id):
        return self.page.locator(f"#batches li[data-id={id}]")

    def signs_in(self):
        answer = self.page.goto(URL + "/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, policy
        expect(self.page.get_by_role("heading", name="Sign in")).to_be_visible()
        self.shots("sign-in")
        with self.refused(401):
            self.sign_in("lapidary_wrong")
        expect(self.page.get_by_role("alert")).to_contain_text("there is no such key")
        self.page.get_by_label("API key").fill("")
        self.sign_in(OPERATOR)
        expect(self.page.locator("#verdict")).to_be_visible()
        # It is still there after the page is loaded again, and nowhere that outlives the tab.
        self.page.reload()
        expect(self.page.locator("#verdict")).to_be_visible()
        assert self.page.evaluate("localStorage.length") == 0

    def watches(self):
        """A batch from its beginning to its end, without touching anything."""
        page = self.page
        # The model is small and fast: so many take it a few seconds.
        id, total = batch("harbour", sorted(EXPECTED), 80)
        total = f"{total:,}"
        row = self.row(id)
        expect(row).to_contain_text("harbour")
        say("a batch waits")
        expect(page.locator("#verdict")).to_have_text("Something is wrong")
        expect(page.locator(".concerns")).to_contain_text(f"no worker serves `{MODEL}`; {total.replace(',', '')} requests wait")
        expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
        self.shots("overview-problem")
        row.get_by_role("progressbar").evaluate(
            """(bar) => {
                window.seen = [];
                new MutationObserver(() => window.seen.push(Number(bar.getAttribute("aria-valuenow"))))
                    .observe(bar, { attributes: true });
            }"""
        )
        say("nobody serves it")
        expect(row).to_contain_text("left")
        expect(page.locator("#verdict")).to_have_text("All is well")
        self.shot("overview-running")
        expect(row.locator(".badge")).to_have_text("completed", timeout=90_000)
        seen = page.evaluate("window.seen")
        assert seen == sorted(seen) and seen[-1] == 100, seen
        assert any(0 < share < 100 for share in seen), seen
        expect(row).to_contain_text(f"{total} of {total}")
        # The curves and figures tell of it.
        for chart in page.locator(".chart svg").all():
            expect(chart).not_to_have_attribute("aria-label", "nothing yet")
        expect(page.locator(".figures")).not_to_contain_text("NaN")
        return id

    def looks(self, id):
        """From a batch to a result with its picture and its request."""
        page = self.page
        page.goto(URL + "/#/")
        expect(page.locator("#recent .result")).to_have_count(8)
        self.seen_all("#recent img")
        self.shots("overview")
        self.row(id).get_by_role("link").click()
        expect(page.locator("#results .result")).to_have_count(24)
        self.seen_all("#results img")
        self.shots("batch")
        page.get_by_role("button", name="Show older ones").click()
        expect(page.locator("#results .result")).to_have_count(48)
        card = page.locator("#results .result").last
        name, text = card.locator("strong").inner_text(), card.locator(".text").inner_text()
        assert name.split("/")[1] in EXPECTED and " background" in text, (name, text)
        card.get_by_role("link").click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        # Which one this is depends on how fast what was, and the model errs on some.
        expect(page.locator("#said")).to_have_text(text)
        self.seen_all(".pictures img")
        expect(page.locator("pre")).to_contain_text(PROMPT)
        expect(page.locator("article")).to_contain_text("Where its time went")
        self.shots("result")
        result = page.url.rsplit("/", 1)[1]
        page.goto(f"{URL}/#/results/{large(id)[0]}")
        expect(page.locator("#said")).to_have_text(EXPECTED["00.png"])
        self.seen_all(".pictures img")
        say("all went well")
        return result

    def seen_all(self, pictures):
        """Every picture is there and can be seen."""
        assert self.page.locator(pictures).count() > 0
        for picture in self.page.locator(pictures).all():
            picture.scroll_into_view_if_needed()
            expect(picture).to_have_js_property("complete", True)
            self.page.wait_for_function("(picture) => picture.naturalWidth > 0", arg=picture.element_handle())
        self.page.evaluate("scrollTo(0, 0)")

    def replays(self):
        """Dead letters: one is forgotten, the other one shown, mended, brought back, and answered."""
        page = self.page
        page.get_by_role("link", name="Dead letters", exact=True).click()
        letter = page.locator("#letters .letter")
        expect(letter).to_have_count(2)
        letter.first.get_by_role("link").press("Enter")
        forget = page.get_by_role("button", name="Forget it")
        forget.click()
        page.get_by_role("dialog").get_by_role("button", name="Not now").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        forget.click()
        self.confirm("Forget it")
        expect(letter).to_have_count(1)
        expect(letter).to_contain_text("report")
        expect(letter).to_contain_text("MEDIA_UNREACHABLE")
        self.shots("dead-letters")
        letter.get_by_role("link").press("Enter")
        request = page.get_by_label("Its request")
        expect(request).to_be_visible()
        assert "report.txt" in request.input_value()
        self.shots("dead-letter")
        button = page.get_by_role("button", name="Bring it back")
        request.fill("{")
        button.click()
        expect(page.get_by_role("alert")).to_contain_text("no JSON")
        request.fill(json.dumps({**asked("00.png"), "max_tokens": 0}))
        button.click()
        with self.refused(400):
            self.confirm("Bring it back")
        expect(page.get_by_role("alert")).to_contain_text("`max_tokens` is 0")
        request.fill(json.dumps(asked("00.png")))
        button.click()
        self.confirm("Bring it back")
        expect(page.get_by_role("heading", name="It is back")).to_be_visible()
        page.get_by_role("link", name="See its batch").click()
        card = page.locator("#results .result").filter(has_text=EXPECTED["00.png"])
        expect(card).to_have_count(1)
        card.get_by_role("link").click()
        expect(page.locator("#said")).to_have_text(EXPECTED["00.png"])
        # What is shown is what was asked in the end, not what the manifest holds.
        expect(page.locator("pre")).to_contain_text(PROMPT)
        self.seen_all(".pictures img")
        page.get_by_role("link", name="Dead letters", exact=True).click()
        expect(page.get_by_text("No dead letters")).to_be_visible()

    def confirm(self, yes):
        """By keyboard; the first button is the harmless one."""
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_role("button").first).to_be_focused()
        self.page.keyboard.press("Tab")
        expect(dialog.get_by_role("button", name=yes)).to_be_focused()
        self.page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)

    def cancels(self):
        page = self.page
        page.get_by_role("link", name="Overview", exact=True).click()
        id, _ = batch("mistake", ["10.png"], 5_000)
        badge, button = self.row(id).locator(".badge"), self.row(id).get_by_role("button", name="Pause")
        button.click()
        expect(badge).to_have_text("paused")
        status, shown = ask("GET", f"/v1/batches/{id}", OPERATOR)
        assert status == 200 and shown["paused"], shown
        self.row(id).get_by_role("button", name="Resume").click()
        expect(badge).to_have_text("in progress")
        cancel = self.row(id).get_by_role("button", name="Cancel")
        cancel.click()
        page.get_by_role("dialog").get_by_role("button", name="Go on").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        cancel.click()
        self.confirm("Cancel it")
        expect(self.row(id).locator(".badge")).to_have_text("cancelled")
        status, shown = ask("GET", f"/v1/batches/{id}", OPERATOR)
        assert status == 200 and shown["status"] == "cancelled", shown

    def is_a_stranger(self, batch, result):
        """Somebody else sees nothing of all this."""
        page = self.page
        for path in [f"/v1/batches/{batch}/latest", f"/v1/results/{result}"]:
            assert ask("GET", path, OPERATOR)[0] == 200
            status, answer = ask("GET", path, STRANGER)
            assert (status, answer["error"]["code"]) == (404, "not_found"), answer
        _, picture = large(batch)
        status, answer = ask("GET", f"/v1/media/{picture}", STRANGER)
        assert (status, answer["error"]["code"]) == (404, "not_found"), answer
        for method, path in [("GET", ""), ("GET", "/job_0"), ("POST", "/job_0/replay")]:
            status, answer = ask(method, "/v1/dead-letters" + path, STRANGER, {} if method == "POST" else None)
            assert (status, answer["error"]["code"]) == (403, "missing_scope"), answer
        page.get_by_role("button", name="Sign out").click()
        self.sign_in(STRANGER)
        expect(page.locator("#verdict")).to_have_text("All is well")
        expect(page.get_by_text("No batches yet")).to_be_visible()
        expect(page.locator("#queues")).to_be_hidden()
        expect(page.get_by_role("link", name="Dead letters", exact=True)).to_have_count(0)

    def is_left_alone(self):
        """The gateway stops while somebody watches."""
        self.page.get_by_role("button", name="Sign out").click()
        self.sign_in(OPERATOR)
        expect(self.page.locator("#batches li")).not_to_have_count(0)
        assert self.complaints == [] and self.strangers == [], (self.complaints, self.strangers)
        say("somebody watches")
        expect(self.page.locator("#link")).to_contain_text("does not answer")
        expect(self.page.locator("#verdict")).to_have_text("Something is wrong")
        self.shots("gateway-gone")


def main():
    program = shutil.which("chromium")
    assert program, "chromium is missing: run tests/setup"
    Path(SHOTS).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        # Its sandbox needs privileges that a container's root has not.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        person = Person(browser)
        person.signs_in()
        batch = person.watches()
        result = person.looks(batch)
        person.replays()
        person.cancels()
        person.is_a_stranger(batch, result)
        person.is_left_alone()
        browser.close()
    say("all was seen")


main()
