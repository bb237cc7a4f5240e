"""The manual pages and the sample configuration, as they are committed, fit the binary."""

import pathlib
import re
import subprocess

import pytest
from harness.daemon import REPOSITORY, find_binary

PAGES = sorted((REPOSITORY / "docs" / "man").glob("*.[1-9]"))
SAMPLE = REPOSITORY / "etc" / "deferd.conf"
MADE = re.compile(r'^\.\\" Begin of what "make docs" writes\.\n(.*)^\.\\" End of', re.S | re.M)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def deferd(*arguments):
    result = run(find_binary(), *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_page_of_directives_is_what_the_table_makes():
    page = (REPOSITORY / "docs" / "man" / "deferd.conf.5").read_text(encoding="utf-8")
    assert MADE.search(page)[1] == deferd("--print-man"), "make docs writes it anew"


def test_the_sample_is_what_the_table_makes():
    assert SAMPLE.read_text(encoding="utf-8") == deferd("--print-sample"), "make docs writes it anew"


def test_the_page_and_the_sample_name_every_directive(workspace):
    """-T prints what is known without either of them."""
    minimal = workspace.write(
        "minimal.conf",
        "[www]\nlisten = /tmp/a\nupstream[x] = /tmp/b\nupstream.max_workers = 1\n"
        "class[x].priority = 1\n",
    )
    names = set(re.findall(r"^(\S+) = ?", deferd("-T", "-c", minimal), re.M))
    assert {"pid", "queue.max", "upstream[x].max_workers", "class[x].priority"} <= names
    page = (REPOSITORY / "docs" / "man" / "deferd.conf.5").read_text(encoding="utf-8")
    sample = SAMPLE.read_text(encoding="utf-8")
    for name in names:
        documented = re.sub(r"\[\w+\]", "[NAME]", name)
        assert f'.BI "{documented}" ' in page
        assert re.search(r"^;?" + re.sub(r"\\\[\w+\\\]", r"\\[\\w+\\]", re.escape(name)) + " =",
                         sample, re.M), name


@pytest.mark.parametrize("change", ["as it is", "without comments", "with all directives"])
def test_the_sample_is_in_order(workspace, change):
    text = SAMPLE.read_text(encoding="utf-8")
    if change == "without comments":
        text = re.sub(r"^;.*\n", "", text, flags=re.M)
    elif change == "with all directives":
        # All but fpm_pool: the file it names would have to be there.
        text = re.sub(r"^;(?=\S+ =)(?!.*fpm_pool)", "", text, flags=re.M)
    file = workspace.write("sample.conf", text)
    result = run(find_binary(), "-t", "-c", file)
    assert (result.returncode, result.stderr) == (0, "deferd: the configuration is in order\n")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_has_no_mistakes(page):
    result = run("groff", "-ww", "-man", "-Tutf8", "-K", "utf-8", str(page))
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{page.stem.upper()}({page.suffix[1:]})" in result.stdout


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_is_of_this_version(page):
    version = deferd("--version").strip()
    assert f'"{version}"' in pathlib.Path(page).read_text(encoding="utf-8").splitlines()[0]
