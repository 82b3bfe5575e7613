"""Shows pages in Chromium, as a person or a screen reader meets them, and prints what it found as JSON.

    browser.py URL...

It drives Chromium by the DevTools protocol over a pipe, with nothing but Python's standard library. For each page:
`nodes`: the accessibility tree as [role, name, level] (level: of a heading), what is ignored left out;
`violations`: what its content security policy kept from happening; `errors`: what else went to the console;
`requests`: what was fetched beside the page itself; `widths`: by the width of a telephone and of a screen, how wide the page is;
`colors`: the background and the text, light and dark; `bytes`: of the document.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time

LIMIT = 30


class Browser:
    """One Chromium, gone with its files when the block is left."""

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(prefix="watchdog-browser-")
        there, self.to = os.pipe()
        self.answers, back = os.pipe()

        def put_in_place():
            # it reads commands from descriptor 3, and writes to 4
            ours = [os.dup(there), os.dup(back)]
            for fd, place in zip(ours, (3, 4)):
                os.dup2(fd, place)

        self.process = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
             f"--user-data-dir={self.profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            start_new_session=True, preexec_fn=put_in_place)
        os.close(there)
        os.close(back)
        self.number, self.buffer, self.events = 0, b"", []
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
        except (OSError, EOFError, TimeoutError):
            pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            # its own session: nothing else is in the group
            os.killpg(self.process.pid, 9)
            self.process.wait()
        for _ in range(50):
            try:
                self.profile.cleanup()
                return
            except OSError:
                time.sleep(0.1)

    def message(self, until):
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self.answers, 1 << 20)
            if not part:
                raise EOFError("Chromium has ended")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self.to, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + LIMIT
        while True:
            message = self.message(until)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, method):
        until = time.monotonic() + LIMIT
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.message(until))


def look(browser, url):
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def call(method, **parameters):
        return browser.call(method, session, **parameters)

    for domain in ("Page", "Log", "Runtime", "Network", "Audits", "Accessibility"):
        call(f"{domain}.enable")
    browser.events = []
    call("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired")
    widths, colors = {}, {}
    for width, mobile in ((400, True), (1280, False)):
        call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=mobile)
        widths[str(width)] = call("Page.getLayoutMetrics")["cssContentSize"]["width"]
    for scheme in ("light", "dark"):
        call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        style = "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
        colors[scheme] = call("Runtime.evaluate", expression=style, returnByValue=True)["result"]["value"]
    nodes = []
    for node in call("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if node.get("ignored") or role in ("InlineTextBox", "none", "generic"):
            continue
        level = [it["value"]["value"] for it in node.get("properties", []) if it["name"] == "level"]
        nodes.append([role, node.get("name", {}).get("value", ""), level[0] if level else None])
    size = call("Runtime.evaluate", expression="document.documentElement.outerHTML.length", returnByValue=True)
    found = {"nodes": nodes, "widths": widths, "colors": colors, "bytes": size["result"]["value"],
             "violations": [], "errors": [], "requests": []}
    for event in browser.events:
        method, about = event.get("method"), event.get("params", {})
        if method == "Audits.issueAdded" and about["issue"]["code"] == "ContentSecurityPolicyIssue":
            found["violations"].append(about["issue"]["details"]["contentSecurityPolicyIssueDetails"]["violatedDirective"])
        elif method == "Log.entryAdded" and about["entry"]["source"] != "security":
            found["errors"].append(about["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            found["errors"].append(about["exceptionDetails"]["text"])
        elif method == "Network.requestWillBeSent" and about["request"]["url"] != url:
            found["requests"].append(about["request"]["url"])
    browser.call("Target.closeTarget", targetId=target)
    return found


with Browser() as browser:
    for url in sys.argv[1:]:
        print(json.dumps(look(browser, url)))
