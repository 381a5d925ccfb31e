"""What the site makes from the pages: a page for each stage, the reference of the public names, and `llms.txt`.

mkdocs calls these functions (`hooks` in mkdocs.yml). The pages themselves stay what they are in the repository.
"""

from __future__ import annotations

import importlib
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import leanrag

STAGES = "stages.md"
PROTOCOLS = {
    "Language model": ("LanguageModel", "GenerationStream", "GenerateOptions"),
    "Embedder": ("Embedder",),
    "Reader of a format": ("DocumentReader",),
    "Chunker": ("Chunker",),
    "Index": ("VectorIndex", "VectorSource"),
    "Retriever": ("Retriever", "ChunkStore"),
    "Reranker": ("Reranker",),
    "Packer": ("Packer",),
    "Compressor": ("Compressor", "ComputesAhead"),
    "Template": (),
    "Entailment": ("EntailmentChecker",),
    "Cache": ("ResponseCache",),
    "Ledger": ("Ledger",),
}
"""The Protocols of `leanrag.protocols` by the section of `stages.md` that explains them."""

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def split_stages(text: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first section of `stages.md`, and the sections by their names."""
    blanked = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)  # a comment in code is no heading
    starts = [found.start() for found in re.finditer(r"^## ", blanked, re.MULTILINE)]
    sections = {}
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        name, _, body = text[start:end].removeprefix("## ").partition("\n")
        sections[name] = body.strip()
    return text[: starts[0]].strip(), sections


def stage_path(name: str) -> str:
    """Return the path of the page of a stage; the name of the section and its anchor give the same."""
    return f"stages/own-{name.lower().replace(' ', '-')}.md"


def stage_page(name: str, body: str) -> str:
    """Return the page of a stage: its section, and its Protocols."""
    body = re.sub(r"\]\(([\w-]+\.(?:md|svg|png))", r"](../\1", body)
    parts = [f"# {name}", body]
    if name != "Language model":
        parts.append(
            "The example uses `open_with` from [Embedder](own-embedder.md), which opens a folder with stand-ins."
        )
    if PROTOCOLS[name]:
        parts += ["## Protocol", *(f"::: leanrag.protocols.{each}" for each in PROTOCOLS[name])]
    else:
        parts += ["## Class", "::: leanrag.prompting.PromptTemplate"]
    return "\n\n".join(parts) + "\n"


def api_pages() -> dict[str, str]:
    """Return the pages of the reference by their paths: the public names, then those of each wing that are not among them."""
    homes = [f"{leanrag._MODULES[name]}.{name}" for name in leanrag.__all__]
    objects = [getattr(leanrag, name) for name in leanrag.__all__]
    pages = {
        "api/index.md": _reference("leanrag", "`import leanrag` has these names. The others are in the wings.", homes)
    }
    for wing in sorted(leanrag._WINGS):
        face, names = importlib.import_module(f"leanrag.{wing}"), []
        for name, value in vars(face).items():
            home = getattr(value, "__module__", None) or ""
            if not name.startswith("_") and home.startswith("leanrag.") and not any(value is each for each in objects):
                objects.append(value)
                names.append(f"{home}.{name}")
        if names:
            about = (face.__doc__ or "").partition("\n")[0]
            pages[f"api/{wing}.md"] = _reference(f"leanrag.{wing}", about, names)
    return pages


def _reference(title: str, about: str, names: list[str]) -> str:
    blocks = [
        f"::: {name}\n    options: {{heading_level: 2}}"
        for name in sorted(names, key=lambda name: name.rsplit(".", 1)[1])
    ]
    return "\n\n".join([f"# {title}", about, *blocks]) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made, and at the end of the menu the pages that mkdocs.yml does not name."""
    text = (Path(config.docs_dir) / STAGES).read_text(encoding="utf-8")
    made = {stage_path(name): stage_page(name, body) for name, body in split_stages(text)[1].items()}
    reference = api_pages()
    for path, content in (made | reference).items():
        files.append(File.generated(config, path, content=content))
    _add_to_nav(config.nav, "Stages", list(made))
    _add_to_nav(config.nav, "API", list(reference))
    config.nav += sorted({page.name for page in Path(config.docs_dir).glob("*.md")} - set(_paths_of(config.nav)))
    return files


def _add_to_nav(nav: list[Any], section: str, paths: list[str]) -> None:
    for entry in nav:
        if section in entry:
            entry[section] += [path for path in paths if path not in entry[section]]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let `stages.md` be a table of contents, and links to its sections lead to their pages."""
    path = page.file.src_uri
    if path == STAGES:
        intro, sections = split_stages(markdown)
        markdown = intro + "\n\n" + "\n".join(f"- [{name}]({stage_path(name)})" for name in sections)

    def to_page(link: re.Match[str]) -> str:
        return f"]({posixpath.relpath(stage_path(link[1]), posixpath.dirname(path) or '.')})"

    return re.sub(r"\]\((?:\.\./)*stages\.md#([\w-]+)\)", to_page, markdown)


def on_post_build(config: Any) -> None:
    """Write `llms.txt`: what there is to read, for a language model, and `llms-full.txt` with all of it."""
    docs = Path(config.docs_dir)
    lines, whole = [f"# {config.site_name}", "", f"> {config.site_description}", "", "## Docs", ""], []
    for path in _paths_of(config.nav):
        if not (docs / path).is_file():
            continue
        text = (docs / path).read_text(encoding="utf-8")
        title, about = first_lines(text)
        lines.append(f"- [{title}]({path.replace('.md', '.html')}): {about}")
        whole.append(text.strip())
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(whole) + "\n", encoding="utf-8")


def first_lines(text: str) -> tuple[str, str]:
    """Return the title of a page, and its first sentence."""
    title = text.partition("\n")[0].removeprefix("# ")
    prose = [part for part in text.split("\n\n")[1:] if part[:1].isalpha()]
    sentence = re.split(r"(?<=[.:])\s", " ".join(prose[0].split()) if prose else "")[0]
    return title, sentence


def _paths_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [path for entry in entries for path in _paths_of(entry)]
