"""The report in a real browser: whatever a model wrote, no script runs, nothing is fetched, and the layout holds.

The same traps are sprung on bare pages too, without escaping or without the policy: a check that cannot fail says nothing.
"""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import chromium
import fabricated_run
import pytest
from chromium import Chromium, Tab
from minimal_results import edited

from w2sr_jax.core import codec
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import Source
from w2sr_jax.report.write import Written, write

pytestmark = pytest.mark.skipif(chromium.executable() is None, reason="Chromium is absent")

SETTLE = 0.7  # seconds a loaded page is left to itself
WIDTHS = (360, 800, 1280)
# Elements that no text of a model may bring into being.
FOREIGN = (
    "script, iframe, object, embed, form, input, button, base, video, audio, frame, template, math, [onerror], [onload], [style]"
)
WIDE = """(() => {
  const width = document.documentElement.clientWidth, found = [];
  const held = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)) return true; return false; };
  for (const e of document.body.querySelectorAll('*')) {
    const box = e.getBoundingClientRect();
    if (box.width > 0 && box.right > width + 1 && !held(e)) found.push(`${e.tagName}.${e.className} ${Math.round(box.right)}`);
  }
  return found.slice(0, 5); })()"""

LINKS = "[...document.querySelectorAll('a')].map(e => e.getAttribute('href'))"
HIDDEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u202a-\\u202e\\u2066-\\u2069\\u2028\\u2029]")


class Server(NamedTuple):
    """Hears whoever fetches something; `hits` are the paths asked for."""

    address: str
    hits: list[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    hits: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_HEAD = do_OPTIONS = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield Server(f"http://127.0.0.1:{listening.server_port}", hits)
    listening.shutdown()
    listening.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def tab(browser: Chromium) -> Iterator[Tab]:
    made = browser.tab()
    yield made
    browser.close(made)


def markup(address: str) -> list[str]:
    """Texts that do something where they are taken for HTML."""
    act = f"window.pwned=1;document.title='pwned';new Image().src='{address}/script'"
    return [
        f"<script>{act}</script>",
        f"</style></title></textarea></pre><script>{act};alert(1)</script>",
        f'<img src="{address}/img" onerror="{act}">',
        f'<svg onload="{act}"><image href="{address}/svg"/></svg>',
        f'<iframe src="{address}/frame"></iframe><iframe srcdoc="<script>parent.pwned=1</script>"></iframe>',
        f'<object data="{address}/object"></object><embed src="{address}/embed">',
        f'<link rel="stylesheet" href="{address}/sheet">',
        f"<style>@import url({address}/import); body{{background:url({address}/url)}}</style>",
        f'<div style="position:fixed;inset:0;width:9999px;background:url({address}/inline)">covered</div>',
        f'<video autoplay src="{address}/video" onerror="{act}"></video><audio src="{address}/audio"></audio>',
        f'" onmouseover="{act}" autofocus onfocus="{act}" x="',
        f'<form id="f" action="{address}/form"><button autofocus></button></form>',
        f'<math><mtext><img src="{address}/math" onerror="{act}"></mtext></math>',
        f'<a href="javascript:{act}" id="j">x</a><a href="data:text/html,<script>1</script>">y</a>',
        f'<base href="{address}/base/">',
        "{{ 7 * 7 }}{% raw %}",
        f"--><details open ontoggle={act!r}><input autofocus onfocus={act!r}></details><!--",
    ]


def leaving(address: str) -> str:
    """No policy stops a page that sends its reader away; only escaping does."""
    return f'<meta http-equiv="refresh" content="0; url={address}/refresh">'


def awkward() -> list[str]:
    """Texts that disturb the layout or the eye."""
    return [
        "9" * 100_000,
        "W" * 100_000,
        "Z" + "\u0301\u0317\u0489" * 2000,
        "safe \u202e 21 = 6 * 2 \u2066 \u200f\u200b hidden",
        "a\x00b\x1b[31mred\x7f\r\x85\u2028\u2029\ufffe",
        "\ud800 lone",
        "\n" * 3000,
        "‮﷽" * 500,
        "\t" * 4000,
    ]


def traps(address: str) -> list[str]:
    return [*markup(address), leaving(address), *awkward()]


@pytest.fixture(scope="module")
def report(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A report whose every text is a trap."""
    results, timings, evidence = fabricated_run.report(count=40)
    texts = traps(server.address)
    every = "\n".join(texts)[:3000]
    rows = [EvidenceRow(text, (text, texts[-1 - number], None), ("all", texts[0])) for number, text in enumerate(texts)]
    page = Evidence(
        texts[0],
        texts[1],
        every,
        [Source(path=texts[2], digest=texts[3], rows=1, where=texts[4])],
        ("text", texts[5], "nothing"),
        {"all": "All", texts[0]: texts[6], "none": "None"},
        rows,
    )

    def spoil(bad: dict[str, Any]) -> None:
        bad["name"] = texts[1]
        bad["warnings"] = texts
        bad["versions"] = dict(zip(texts, texts))
        bad["experiment"] = {text[:500]: text for text in texts}
        bad["device"]["kind"] = texts[2]
        bad["rungs"][1]["name"] = texts[0]
        bad["rungs"][0]["teachers"] = [texts[3]]
        bad["rungs"][0]["curation"]["all"].update(rejections=dict.fromkeys(texts, 3))
        bad["rungs"][0]["curation"]["all"]["steps"][0]["name"] = texts[9]
        bad["models"][every] = {**bad["models"]["teacher"]}
        for entry, text in zip(bad["ledgers"], texts):
            entry.update(loss=text, teacher=text, sources=[{"path": text, "digest": text, "where": text, "rows": 3}])
        bad["teachers"][0]["teachers"][0]["name"] = texts[2]
        bad["teachers"][0]["pairs"][0].update(left=texts[5], right=every)
        for stage, text in zip(bad["stages"], texts):
            stage.update(name=text, kind=text, device=text)
        bad["samples"] = [codec.encode(fabricated_run.sample(problem)) for problem in fabricated_run.problems(4)]
        for number, sample in enumerate(bad["samples"]):
            sample["problem"].update(id=texts[number], question="\n".join(texts), answer=texts[number + 2])
            sample["traces"] = [
                {
                    "model": text,
                    "role": text,
                    "text": text,
                    "verdict": "unparsed",
                    "rule": text,
                    "finish": "stop",
                    "steps": [{"start": 0, "end": 3, "valid": True}],
                }
                for text in texts[number * 7 : number * 7 + 8]
            ]
        bad["models"]["0-small.all"]["evidence"] = page.key

    return write(tmp_path_factory.mktemp("report"), edited(results, spoil), timings, [page, *evidence])


def pages(report: Written) -> dict[str, Path]:
    return {"index": report.index, "evidence": report.evidence[0]}


def did(tab: Tab, server: Server) -> list[str]:
    """What a page did that it must not: the empty list if nothing."""
    found = [f"fetched {path}" for path in server.hits]
    asked = [event["request"]["url"] for event in tab.said("Network.requestWillBeSent")]
    found += [f"asked for {url[:80]}" for url in asked if not url.startswith(("file:", "data:"))]
    found += [f"asked for {url[-40:]}" for url in asked[1:] if url.startswith("file:")]
    found += ["opened a dialog"] * len(tab.said("Page.javascriptDialogOpening"))
    found += ["opened a frame"] * len(tab.said("Page.frameAttached"))
    found += [f"logged {event['entry']['text'][:80]}" for event in tab.said("Log.entryAdded")]
    found += ["ran a script (console)"] * len(tab.said("Runtime.consoleAPICalled"))
    found += ["ran a script (exception)"] * len(tab.said("Runtime.exceptionThrown"))
    found += ["ran a script (global)"] * bool(tab.evaluate("typeof window.pwned !== 'undefined'"))
    found += ["changed its title"] * bool(tab.evaluate("document.title === 'pwned'"))
    return found


@pytest.mark.parametrize("page", ["index", "evidence"])
def test_no_script_runs_and_nothing_is_fetched(page: str, report: Written, browser: Chromium, tab: Tab, server: Server) -> None:
    server.hits.clear()
    path = pages(report)[page]
    before = browser.pages()
    tab.open(path.as_uri(), SETTLE)
    tab.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    browser.rest(0.2)
    assert did(tab, server) == []
    assert browser.pages() <= before  # no window opened
    assert tab.evaluate("location.href") == path.as_uri()
    assert tab.evaluate(f"[...document.querySelectorAll({FOREIGN!r})].map(e => e.outerHTML.slice(0, 80))") == []
    assert tab.evaluate("document.querySelectorAll('meta[http-equiv=refresh], link:not([rel=icon]), body style').length") == 0
    assert [link for link in tab.evaluate(LINKS) if not link.startswith(("#", "evidence/", "../index.html"))] == []
    assert HIDDEN.search(tab.evaluate("document.body.textContent")) is None
    assert tab.evaluate("document.body.textContent.includes('<script>')") is True  # the text is all there, to be read


@pytest.mark.parametrize("page", ["index", "evidence"])
def test_the_layout_holds(page: str, report: Written, tab: Tab) -> None:
    tab.width(WIDTHS[0])
    tab.open(pages(report)[page].as_uri(), 0)
    wanted = [
        "qualified",
        "accuracy",
        "ladder",
        "gap",
        "ledger",
        "teachers",
        "curation",
        "training",
        "probe",
        "reasoning",
        "cost",
        "traces",
        "run",
    ]
    expected = wanted if page == "index" else ["all", "none"]
    assert tab.evaluate(f"{expected}.filter(id => !document.getElementById(id))") == []
    for opened in ("false", "true"):
        tab.evaluate(f"document.querySelectorAll('details').forEach(e => e.open = {opened})")
        for width in WIDTHS:
            tab.width(width)
            scroll, client = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert client == width
            assert scroll <= client, (width, opened, tab.evaluate(WIDE))
            assert tab.evaluate(WIDE) == []
            if opened == "false":  # nor do thousands of empty lines push the rest out of sight
                assert tab.evaluate("document.documentElement.scrollHeight") < 60_000


@pytest.mark.parametrize(("width", "high"), [(1280, 800), (390, 844)])
def test_the_first_screen_holds_headline_and_picture(width: int, high: int, tab: Tab, tmp_path: Path) -> None:
    written = write(tmp_path, fabricated_run.results(count=40))
    tab.width(width)
    tab.open(written.index.as_uri(), 0)
    below = (
        "[...document.querySelectorAll('.verdict, header figure img')].map(e => e.getBoundingClientRect()).filter(b => b.height)"
    )
    verdict, picture = tab.evaluate(f"{below}.map(b => [b.top, b.bottom])")
    assert 0 < verdict[0] < verdict[1] <= picture[0] < picture[1] <= high


def test_links_lead_to_rows(report: Written, tab: Tab) -> None:
    """Each link of the first page is followed as a reader would: the page is there, and so is the section."""
    tab.open(report.index.as_uri(), 0)
    links = set(tab.evaluate("[...document.querySelectorAll('a.rows')].map(e => e.getAttribute('href'))"))
    assert len(links) > 40
    kept = {path.name: path.read_text(encoding="utf-8") for path in report.evidence}
    for link in links:
        name, _, anchor = link.removeprefix("evidence/").partition("#")
        assert not anchor or f'id="{anchor}"' in kept[name], link
    tab.evaluate("document.querySelector('a.rows[href*=\"#\"]').click()")
    tab.browser.wait(lambda: len(tab.said("Page.loadEventFired")) > 1)
    assert tab.evaluate("document.querySelector(':target h2') !== null")


def raw(texts: list[str], policy: str = "") -> str:
    return (
        f"<!doctype html><html><head><meta charset=utf-8>{policy}<title>bare</title></head><body>{' '.join(texts)}</body></html>"
    )


def test_the_traps_work(tab: Tab, server: Server, tmp_path: Path) -> None:
    """Without escaping and without the policy the traps do all that is looked for above."""
    server.hits.clear()
    path = tmp_path / "bare.html"
    path.write_text(raw(markup(server.address)), encoding="utf-8")
    tab.open(path.as_uri(), SETTLE)
    found = " ".join(did(tab, server))
    for deed in (
        "fetched /img",
        "fetched /frame",
        "ran a script (global)",
        "opened a dialog",
        "opened a frame",
        "changed its title",
    ):
        assert deed in found
    server.hits.clear()
    path.write_text(raw([leaving(server.address)]), encoding="utf-8")
    tab.open(path.as_uri(), SETTLE)
    assert "/refresh" in server.hits
    path.write_text(raw(awkward()[1:2]), encoding="utf-8")
    tab.width(360)
    tab.open(path.as_uri(), 0)
    assert tab.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize("page", ["index", "evidence"])
def test_the_policy_holds_where_escaping_would_fail(page: str, report: Written, tab: Tab, server: Server, tmp_path: Path) -> None:
    """The page with raw markup in its body: the second lock. Its policy stops scripts, frames, styles and fetches alike."""
    html = pages(report)[page].read_text(encoding="utf-8")
    path = tmp_path / "broken.html"
    path.write_text(html.replace("<header>", f"{' '.join(markup(server.address))}<header>", 1), encoding="utf-8")
    server.hits.clear()
    tab.open(path.as_uri(), SETTLE)
    tab.evaluate("document.getElementById('j').click(); document.getElementById('f').submit()")
    tab.browser.rest(SETTLE)
    assert server.hits == []
    assert tab.evaluate("typeof window.pwned") == "undefined"
    assert tab.evaluate("document.title") != "pwned"
    assert tab.said("Page.javascriptDialogOpening") == []
    refused = [event["entry"]["text"] for event in tab.said("Log.entryAdded")]
    assert any("Content Security Policy" in text for text in refused)
