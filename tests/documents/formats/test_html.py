from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.documents.formats.html import html_to_text
from leanrag.documents.loading import load_file
from leanrag.errors import DocumentError


def write(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_html_becomes_markdown(tmp_path):
    html = """<!DOCTYPE html><html><head><title>T</title><style>p{color:red}</style></head><body>
    <nav>Menu <nav>deep</nav> more</nav><!-- <p>comment</p> -->
    <h2 id=x>Caf&eacute;
      &amp; <b>Bar</b><a class="headerlink" href="#x">\xb6</a></h2>
    <p title="a > b">One&nbsp;two, 1 < 2,<br>next <em>it</em>al.</p>
    <ol start="3"><li>first<ul><li>inner</li></ul></li><li><p>second</p></li></ol>
    <pre><code>def <i>f</i>():
    # no heading
</code></pre>
    <table><tr><th>A</th><th>B</th></tr><tr><td><p>1</p></td><td>two<br>lines</td></tr></table>
    <script>document.write("<p>no</p>")</script>end</body></html>"""
    document = load_file(write(tmp_path, "a.html", html))
    assert document.kind == "markdown"
    assert document.text == (
        "## Café & Bar\n\n"
        "One two, 1 < 2,\nnext ital.\n\n"
        "3. first\n  - inner\n4. second\n\n"
        "```\ndef f():\n    # no heading\n```\n\n"
        "| A | B |\n| --- | --- |\n| 1 | two lines |\n\n"
        "end\n"
    )


def test_a_table_that_lays_out_a_page_is_read_as_blocks():
    html = "<table><tr><td><h1>Title</h1><p>Body</p></td><td>side</td></tr></table>"
    assert html_to_text(html) == "# Title\n\nBody\n\nside\n"


def test_a_fence_is_longer_than_those_it_holds():
    assert html_to_text("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````\n"


def test_a_page_without_text_is_an_error(tmp_path):
    with pytest.raises(DocumentError, match="contains no text"):
        load_file(write(tmp_path, "a.html", "<p><script>var x = 1</script></p>"))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ul><li>a<li>b", "- a\n- b\n"),
        ("<p>a<p>b<h1>c", "a\n\nb\n\n# c\n"),
        ("<table><tr><td>a<td>b<tr><td>c", "| a | b |\n| c |\n"),
        ("x</div></table></td></ul></pre>y", "x\n\ny\n"),
        ("<![if mso]>a<![endif]><?php x ?>b", "ab\n"),
        ("a<p class='x", "a\n"),
        ("<p class='x>a</p><p>b</p>", "a\n\nb\n"),
        ("a <!-- b", "a\n"),
        ("<pre>a", "```\na\n```\n"),
        ("", ""),
    ],
)
def test_broken_html_is_forgiven(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    "part", ["<a ", "<", "<table>", "<div>", "<x>", "<pre>", "<title>", "<nav/>", "<sup>1", "<math>", "<header>", "<main><section>",
             "<select>", "<td colspan=9999 rowspan=9999>",
              "<table><tr><td>", "<ul><li>", "<!--", '<a ">"', "</script ", "<nav>", "&", "<a '>"]
)  # fmt: skip
@pytest.mark.slow
def test_hostile_html_is_read_in_linear_time(part):
    html_to_text("<script>" * (part == "</script ") + part * 20_000)  # were it quadratic, this would take minutes


@given(
    st.lists(
        st.sampled_from(
            "<p> <h1> <td> <tr> <table> </table> <pre> </pre> <li> <ul> </ul> <nav> </nav> a # ' \"".split()
        )
    )
)
def test_any_html_is_read(parts):
    text = html_to_text(" ".join(parts))
    assert "<p>" not in text
    if "<nav>" not in parts and "<" in "".join(parts):
        assert text.count("a") == parts.count("a")


TEXT = "It is on 4 May."


@pytest.mark.parametrize(
    "tag",
    "nav button noscript canvas object select svg template textarea title iframe video audio dialog map aside header"
    " footer".split(),
)
@pytest.mark.parametrize("opening", ["<{}>", "<{}/>", "<{} class=x />", "<div><{}></div>", "<{0}><{0}>x</{0}>"])
def test_no_unclosed_tag_swallows_the_page(tag, opening):
    assert TEXT in html_to_text(f"<body>{opening.format(tag)}<h1>Launch</h1><p>{TEXT}</p></body>")
    assert TEXT in html_to_text(f"<body>{opening.format(tag)}Menu<p>{TEXT}</p><script src=x /></body>")


@pytest.mark.parametrize("tag", ["script", "style"])
def test_unclosed_code_ends_at_the_next_block(tag):
    assert html_to_text(f"<{tag}>var a = 1;<p>{TEXT}</p>") == f"{TEXT}\n"
    assert html_to_text(f"<{tag} src=x /><p>{TEXT}</p>") == f"{TEXT}\n"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("3 &times; 10<sup>6</sup> cells", "3 × 10^6 cells"),
        ("10<sup>-3</sup> m<sup>2</sup>, 4 km<sup>2</sup>", "10^-3 m^2, 4 km^2"),
        ("(a+b)<sup>n</sup>, e<sup>x+1</sup>", "(a+b)^n, e^x+1"),
        ("120 euros<sup>7</sup> in 2019<sup>8</sup>", "120 euros[7] in 2019[8]"),
        ("the law<sup><a href='#n'>[3]</a></sup> of 1980<sup class=r><a>4</a></sup>", "the law[3] of 1980[4]"),
        ("the 1<sup>st</sup> and the 2<sup>e</sup>", "the 1st and the 2e"),
        ("Acme<sup>TM</sup> and so on<sup>*</sup>", "Acme™ and so on*"),
        ("now $19<sup>99</sup>, before €1,249<sup>50</sup>", "now $19.99, before €1,249.50"),
        ("H<sub>2</sub>O, x<sub>1</sub>, 101<sub>2</sub>", "H2O, x1, 101_2"),
        ("<math><msup><mn>10</mn><mn>6</mn></msup></math>", "10^6"),
        ("<math><mn>3</mn><mfrac><mn>1</mn><mn>2</mn></mfrac></math>", "3 1/2"),
        ("<del>$50</del> <ins>$30</ins>, <s></s>x", "~~$50~~ $30, x"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby>", "漢(kan)"),
    ],
)
def test_raised_and_struck_text_does_not_join_what_is_beside_it(html, text):
    assert html_to_text(f"<p>{html}</p>") == f"{text}\n"


@given(base=st.integers(0, 10**9), mark=st.integers(0, 999), tag=st.sampled_from(["sup", "sub"]))
def test_digits_never_join(base, mark, tag):
    assert f"{base}{mark}" not in html_to_text(f"<p>about {base}<{tag}>{mark}</{tag}> of them</p>").split()


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ('<h2 id="i"><a class="anchor" href="#i">Install</a></h2>', "## Install\n"),
        ('<h2>Install<a class="headerlink" href="#i">¶</a></h2>', "## Install\n"),
        ("<h2><a href='#i'>#</a> Install <a href='#i'>🔗\u200b</a></h2>", "## Install\n"),
        ("<h2><a href='#i'><img alt='Install'></a></h2>", "## Install\n"),
        ("<p>See <a href='#i'>#</a></p>", "See #\n"),
    ],
)
def test_anchors_in_headings(html, text):
    assert html_to_text(html) == text


def test_title_description_and_alternative_text(tmp_path):
    html = '<title>Refund\n policy</title><meta name="Description" content="How to get money back."><p>Thirty days.</p>'
    document = load_file(write(tmp_path, "a.html", html + '<img alt="Form R-7" src=a.png>'))
    assert document.title == "Refund policy"
    assert document.text == "How to get money back.\n\nThirty days.\n\nForm R-7\n"
    again = load_file(write(tmp_path, "b.html", html + "<p>How to get money back.</p>"))
    assert again.text.count("How to get money back.") == 1
    assert load_file(write(tmp_path, "c.html", "<svg><title>Icon</title></svg><p>x</p>")).title == "c.html"


def test_cells_that_span_rows_and_columns():
    html = (
        "<table><caption>Prices</caption><thead><tr><th rowspan=2>Part<th colspan=2>Price<tr><th>Buy<th>Sell</thead>"
        "<tr><td rowspan=2>P-1<td>1<td>2<tr><td>3<td>4|5<tr><td colspan=3>Sold out</table>"
    )
    assert html_to_text(html) == (
        "Prices\n\n| Part | Price Buy | Price Sell |\n| --- | --- | --- |\n| P-1 | 1 | 2 |\n| P-1 | 3 | 4\\|5 |\n"
        "| Sold out |  |  |\n"
    )


def test_the_boilerplate_of_a_site_is_left_out_unless_it_is_asked_for():
    page = (
        "<header>Login Cart</header><div id=cookie-banner>We use cookies.</div><main><header>By Ann</header><p>Text.</p>"
        "<aside>A note.</aside></main><aside>More news</aside><footer>Imprint</footer>"
    )
    assert html_to_text(page) == "By Ann\n\nText.\n\nA note.\n"
    assert html_to_text(page.replace("main>", "article>")) == "By Ann\n\nText.\n\nA note.\n"
    whole = html_to_text(page, boilerplate=True)
    assert all(words in whole for words in ("Login Cart", "We use cookies.", "Text.", "More news", "Imprint"))


def test_a_page_of_boilerplate_alone_is_read():
    assert html_to_text("<header><p>Text.</p></header>") == "Text.\n"
    assert html_to_text("<header>Login</header><main></main><p>Text.</p>") == "Text.\n"


def test_the_heading_of_the_page_comes_with_its_main_part():
    assert html_to_text("<header><h1>Refunds</h1></header><main><p>Text.</p></main>") == "# Refunds\n\nText.\n"
    assert html_to_text("<header><h1>Refunds</h1></header><p>Text.</p>") == "# Refunds\n\nText.\n"


def test_what_a_browser_does_not_show_is_left_out():
    assert html_to_text("<p hidden>a</p><p style='display: none'>b</p><template>c</template><p>d</p>") == "d\n"


def test_terms_lead_to_their_definitions():
    assert html_to_text("<dl><dt>Port<dd>8080<dt>Hosts?<dd>two</dl>") == "Port:\n8080\nHosts?\ntwo\n"


def test_tables_and_blocks_nest():
    assert html_to_text("<div>" * 5000 + TEXT) == f"{TEXT}\n"
    assert html_to_text("<pre>a\n  b<br>c</pre>") == "```\na\n  b\nc\n```\n"
