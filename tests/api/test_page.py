"""The page: it is served without a key, holds nothing that its policy forbids, and loads nothing from elsewhere."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "api" / "page"
FILES = {file.name: file.read_text() for file in FOLDER.iterdir()}


def test_it_is_served(shared):
    answer = shared.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in re.findall(r'(?:href|src)="(page/[^"]+)"', answer.text):
        assert shared.http.get(f"/{name}").status_code == 200, name
    assert shared.http.get("/page/../app.py").status_code == 404
    assert shared.http.get("/page/%2e%2e/app.py").status_code == 404


def test_it_loads_nothing_from_elsewhere():
    assert {"index.html", "style.css", "app.js"} < set(FILES)
    assert len(FILES) > 15
    for name, text in FILES.items():
        assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"@import|url\(", text), name


def test_every_module_is_used_and_served(shared):
    imported = {name for text in FILES.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert imported | {"app.js"} == {name for name in FILES if name.endswith(".js")}
    for name in imported:
        assert shared.http.get(f"/page/{name}").headers["content-type"].startswith("text/javascript"), name


def test_it_needs_nothing_that_the_policy_forbids():
    html = FILES["index.html"]
    script = "".join(text for name, text in FILES.items() if name.endswith(".js"))
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|style:", script)
