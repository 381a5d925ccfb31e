"""Small real files of each format with pages, slides or sheets; made by the libraries that read them, or part by part."""

from __future__ import annotations

import io
import zipfile

__all__ = ["book", "encrypted_pdf", "opendocument", "pdf", "sheets", "slides", "word", "zipped"]


def zipped(parts: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def pdf(*pages: list[str], title: str = "", trailer: str = "") -> bytes:
    """A PDF file with these lines on its pages."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj 0 -20 Td" for line in lines)
        content = f"BT /F1 12 Tf 50 700 Td {shown} ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * i} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    data, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n"
    start = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    data += "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    data += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R {trailer} >>\n"
    return (data + f"startxref\n{start}\n%%EOF\n").encode("latin-1")


def encrypted_pdf() -> bytes:
    """A PDF file that the empty password does not open."""
    key, check = "41" * 32, "42" * 32
    return pdf(
        ["secret"], trailer=f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{key}> /U <{check}> /P -4 >> /ID [<00> <00>]"
    )


def word() -> bytes:
    import docx

    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Handbook", 0)
    document.add_paragraph("Read me first.")
    document.add_heading("Releases", 1)
    document.add_paragraph("Releases are signed off by Ada Park.")
    document.add_paragraph("Run the tests", style="List Bullet")
    document.add_paragraph("Tag the commit", style="List Number")
    table = document.add_table(rows=2, cols=3)
    for row, texts in zip(table.rows, (["Team", "Lead", "Room"], ["Docs", "Bo | Al", "12"]), strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    table.cell(1, 1).merge(table.cell(1, 2))
    document.add_heading("Holidays", 2)
    document.add_paragraph("Holidays are booked with Bo.")
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def slides() -> bytes:
    import pptx
    from pptx.util import Inches

    presentation = pptx.Presentation()
    presentation.core_properties.title = "Plan"
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Goals"
    first.placeholders[1].text = "Faster answers\nFewer tokens"
    first.notes_slide.notes_text_frame.text = "Say why."
    second = presentation.slides.add_slide(presentation.slide_layouts[6])
    size = Inches(0), Inches(0), Inches(4), Inches(1)
    table = second.shapes.add_table(2, 2, *size).table
    for i, row in enumerate((["Year", "Users"], ["2026", "900"])):
        for j, text in enumerate(row):
            table.cell(i, j).text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(*size).text_frame.text = "Grouped words."
    file = io.BytesIO()
    presentation.save(file)
    return file.getvalue()


def sheets() -> bytes:
    import datetime

    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.properties.title = "Numbers"
    costs = workbook.active
    costs.title = "Costs"
    for row in (
        ["Item", "Price", "Since"],
        ["Rent", 1200.0, datetime.datetime(2026, 3, 1)],
        [None],
        ["Tea", 2.5, None],
    ):
        costs.append(row)
    workbook.create_sheet("Empty")
    workbook.create_sheet("People").append(["Ada", True])
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def book(*, encrypted: str = "") -> bytes:
    chapters = {
        "text/one.xhtml": "<html><body><h1>Morning</h1><p>The sun rose.</p></body></html>",
        "text/two words.xhtml": "<html><body><p>It set again.</p></body></html>",
    }
    package = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
      <metadata><dc:title>A Day</dc:title></metadata>
      <manifest><item id="b" href="text/two%20words.xhtml"/><item id="a" href="text/one.xhtml"/>
      <item id="style" href="style.css"/></manifest>
      <spine><itemref idref="a"/><itemref idref="b"/><itemref idref="gone"/></spine></package>"""
    container = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
      <rootfile full-path="OPS/book.opf"/></rootfiles></container>"""
    parts = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "OPS/book.opf": package}
    if encrypted:
        parts["META-INF/encryption.xml"] = f'<encryption><CipherReference URI="{encrypted}"/></encryption>'
    return zipped({**parts, **{f"OPS/{name}": text for name, text in chapters.items()}})


def opendocument(body: str, *, title: str = "", manifest: str = "<manifest/>") -> bytes:
    names = ("office", "text", "table", "drawing", "meta")
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    content = f"<office:document-content {spaces}><office:body>{body}</office:body></office:document-content>"
    meta = f'<meta xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></meta>'
    return zipped({"META-INF/manifest.xml": manifest, "content.xml": content, "meta.xml": meta})
