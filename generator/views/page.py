"""What a page is, and how its template speaks: two languages side by side, links that cannot dangle, inert text.

Templates are Markdown with blocks of HTML. Three functions are all they need beyond Jinja2:

``t("中文", "English", n=3)``
    A phrase in both languages, written where it is used; a phrase without its twin cannot be written at all.
``link("models/qwen3-8b.md#memory")``
    The relative URL of another generated page; a page that does not exist stops the build.
``{{ value }}``
    Any value, made inert: neither HTML nor Markdown in it is ever interpreted (Hub text is untrusted).
"""

from __future__ import annotations

import html
import json
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2
from jinja2.compiler import CodeGenerator
from markupsafe import Markup

from ..records import LANGUAGES, Language, Text

TEMPLATES = Path(__file__).parent / "templates"

# Characters that HTML or Markdown would act on, as numeric entities: the same glyph on the page, and no meaning.
_INERT = {ord(c): f"&#{ord(c)};" for c in "&<>\"'`*_[]{}()#+!|\\~^$"} | {
    ord("\n"): " ",
    ord("\r"): " ",
    ord("\t"): " ",
    ord("\x00"): "",
}

_NOTHING = Markup("")
_ACTIVE = re.compile("[" + re.escape("".join(map(chr, _INERT))) + "]")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")


@dataclass(frozen=True)
class Page:
    """One generated page: the same for both languages but for its words."""

    path: str
    template: str
    title: Text
    description: Text
    context: Mapping[str, Any] = field(default_factory=dict)
    edit: str | None = None
    """Source file that the edit button opens, relative to the repository root."""
    hide: tuple[str, ...] = ("navigation",)
    searchable: bool = True


class DeadLink(ValueError):
    """A template of page `source` links to page `target`, which nobody generates."""

    def __init__(self, source: str, target: str) -> None:
        super().__init__(f"{source} links to {target}, which nobody generates")
        self.target = target


def inert(value: object) -> Markup:
    """`value` as text that neither HTML nor Markdown interprets; already safe markup passes through."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return _NOTHING
    return _inert_text(str(value))


@lru_cache(maxsize=32768)
def _inert_text(text: str) -> Markup:
    """`inert` of a text, kept: names, marks and figures stand on hundreds of pages."""
    return Markup(text.translate(_INERT) if _ACTIVE.search(text) else text)


@lru_cache(maxsize=4096)
def page_url(path: str) -> str:
    """Directory URL of a page path: ``models/a.md`` → ``models/a/``, ``index.md`` → ``''``."""
    stem = path.removesuffix(".md")
    if stem == "index" or stem.endswith("/index"):
        return stem.removesuffix("index")
    return stem + "/"


@lru_cache(maxsize=4096)
def address(target: str, prefix: str) -> tuple[tuple[str, ...], str]:
    """(folders, rest) of page or asset `target` from the root of the site; `rest` is the file name with the anchor."""
    path, hash_mark, anchor = target.partition("#")
    *folders, name = (prefix + page_url(path) if path.endswith(".md") else path).split("/")
    return tuple(folders), name + hash_mark + anchor


def relative_url(source: str, target: str, prefix: str = "") -> str:
    """URL of page or asset `target` (may carry ``#anchor``) as seen from page `source`.

    `prefix` is the folder of the language (``en/``): pages stay inside it, assets and the API are shared by all.
    """
    here, _ = address(source, prefix)
    folders, rest = address(target, prefix)
    common = 0
    for one, other in zip(folders, here, strict=False):
        if one != other:
            break
        common += 1
    relative = "../" * (len(here) - common) + "".join(folder + "/" for folder in folders[common:])
    return relative + rest if relative or rest[:1] not in ("", "#") else "./" + rest


def language_prefix(language: Language) -> str:
    """Folder of a language's pages: none for the default one."""
    return "" if language == LANGUAGES[0] else f"{language}/"


def compiled(owner: str) -> jinja2.BytecodeCache:
    """The compiled templates of `owner`, kept in the user's temporary folder as Python keeps compiled modules."""
    return jinja2.FileSystemBytecodeCache(pattern=f"__atlas_{owner}_%s.cache")


_PLAIN_PHRASE = re.compile(r'\{\{ t\("([^"\\{}]*\S[^"\\{}]*)", "([^"\\{}]*\S[^"\\{}]*)"\) \}\}')
"""A phrase without figures in it. What does not match, such as one with a blank language, is left to `phrase`."""
_BOTH = re.compile("\ue000([^\ue001]*)\ue001([^\ue002]*)\ue002")
"""A plain phrase in a compiled template: both languages between characters of private use."""


class PhraseLoader(jinja2.FileSystemLoader):
    """Reads templates with their plain phrases put in: a page holds hundreds, and each call of `t` takes time."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        source, path, is_fresh = super().get_source(environment, template)
        return _PLAIN_PHRASE.sub("\ue000\\1\ue001\\2\ue002", source), path, is_fresh


def in_language(code: CodeType, number: int) -> CodeType:
    """A compiled template with its plain phrases in language `number` of `LANGUAGES`: compiling takes far longer than
    this, and is done once for all languages."""
    chosen: list[Any] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constant = in_language(constant, number)
        elif isinstance(constant, str):
            constant = _BOTH.sub(rf"\{number + 1}", constant)
        chosen.append(constant)
    return code.replace(co_consts=tuple(chosen))


class PageTemplate(jinja2.Template):
    """A template in the language of its environment."""

    @classmethod
    def from_code(cls, environment: Any, code: CodeType, *arguments: Any) -> jinja2.Template:
        return super().from_code(environment, in_language(code, LANGUAGES.index(environment.language)), *arguments)


class InertCodeGenerator(CodeGenerator):
    """Compiles templates so that they write what `inert` returns as it is, not escaped once more, and call macros and
    functions as they are, without asking first whether they want the context: none does. Together half the rendering.
    """

    def visit_Call(self, node: Any, frame: Any, forward_caller: bool = False) -> None:
        self.write("environment.call(")
        self.visit(node.node, frame)
        self.signature(node, frame, {"caller": "caller"} if forward_caller else None)
        self.write(")")

    def _output_child_pre(self, node: Any, frame: Any, finalize: Any) -> None:
        self.write(finalize.src)

    def _output_child_post(self, node: Any, frame: Any, finalize: Any) -> None:
        self.write(")")


class PageEnvironment(jinja2.Environment):
    """An environment of one language, whose `finalize` is `inert`."""

    code_generator_class = InertCodeGenerator
    template_class = PageTemplate
    call: Any = staticmethod(operator.call)

    def __init__(self, language: Language, **options: Any) -> None:
        super().__init__(**options)
        self.language = language


class PageRenderer:
    """Renders pages in one language; knows every page that exists, so that no link can dangle."""

    def __init__(self, language: Language, known: Collection[str], filters: Mapping[str, Callable[..., Any]]) -> None:
        self.language = language
        self.known = frozenset(known)
        self._phrases: dict[tuple[str, str], Markup] = {}
        self.environment = PageEnvironment(
            language,
            loader=PhraseLoader(TEMPLATES),
            bytecode_cache=compiled("pages"),
            auto_reload=False,  # a renderer serves one build; the next one looks at the files again
            undefined=jinja2.StrictUndefined,
            autoescape=True,
            finalize=inert,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self.environment.filters.update(filters)
        self.environment.filters["l"] = self.localise
        self.environment.filters["other_language"] = self.other_language
        self.environment.globals.update(t=self.phrase, language=language, exists=self.known.__contains__)

    def phrase(self, zh: str, en: str, **values: object) -> Markup:
        """A phrase written in the template in both languages; `values` fill ``{name}`` and are made inert."""
        phrase = self._phrases.get((zh, en))
        if phrase is None:
            if not zh.strip() or not en.strip():
                raise ValueError(f"a phrase lacks one language: zh={zh!r}, en={en!r}")
            phrase = self._phrases[zh, en] = Markup(zh if self.language == "zh" else en)
        return Markup(str.format(phrase, **{k: inert(v) for k, v in values.items()})) if values else phrase

    def localise(self, text: Text | None) -> Markup:
        """A catalog passage in this language, made inert; empty for None."""
        return inert(text[self.language]) if text is not None else Markup("")

    def other_language(self, text: object) -> str:
        """The language code of a quoted passage that is not in the page's language; empty where it is, or has none."""
        plain = html.unescape(str(text))
        chinese = _CHINESE.search(plain) is not None
        if self.language == "zh":
            return "en" if not chinese and len(_LATIN_WORD.findall(plain)) >= 3 else ""
        return "zh" if chinese else ""

    def link_from(self, page: Page) -> Callable[[str], Markup]:
        def link(target: str) -> Markup:
            path = target.partition("#")[0]
            if path.endswith(".md") and path not in self.known:
                raise DeadLink(page.path, path)
            return inert_url(relative_url(page.path, target, language_prefix(self.language)))

        return link

    def render(self, page: Page) -> str:
        """Markdown of `page`, with its front matter."""
        template = self.environment.get_template(page.template)
        body = template.render(page=page, link=self.link_from(page), **page.context)
        return front_matter(page, self.language) + body


def inert_url(url: str) -> Markup:
    """A URL for an attribute: only the characters that could leave the attribute are replaced."""
    return Markup(url.replace("&", "&amp;").replace('"', "%22").replace("<", "%3C").replace(">", "%3E"))


def front_matter(page: Page, language: Language) -> str:
    """YAML front matter that MkDocs and its successors read; JSON strings are valid YAML."""
    plain = Markup.escape
    lines = [
        f"title: {json.dumps(str(plain(page.title[language])), ensure_ascii=False)}",
        f"description: {json.dumps(str(plain(page.description[language])), ensure_ascii=False)}",
    ]
    if page.hide:
        lines.append(f"hide: {json.dumps(list(page.hide))}")
    if not page.searchable:
        lines.append("search: {exclude: true}")
    return "---\n" + "\n".join(lines) + "\n---\n"
