"""Take the picture `receipt.png` of a receipt of made-up rows, with headless Chromium: `python docs/receipt.py`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from leanrag.display import to_html
from leanrag.ledger import CostLedger, Row

ROWS = (
    Row("retrieve", seconds=0.02, cpu_seconds=0.02),
    Row("pack", seconds=0.03, cpu_seconds=0.03, full_tokens=1400),
    Row("prefill", "small", prompt_tokens=260, seconds=1.1, cpu_seconds=2.1),
    Row("decode", "small", completion_tokens=18, seconds=0.6, cpu_seconds=1.1, outcome="escalated"),
    Row("remote", "large", prompt_tokens=310, completion_tokens=22, seconds=0.9, cost=0.0004, outcome="kept"),
    Row("verify", seconds=0.05, cpu_seconds=0.05),
    Row("cache", seconds=0.001, cpu_seconds=0.001, tier="exact"),
)


def main() -> None:
    """Render the receipt, and take its picture."""
    with CostLedger(watts=15) as ledger:
        ledger.record_rows(ROWS)
        page = "<meta charset=utf-8><body style='margin:16px; font-family:sans-serif'>" + to_html(
            ledger.receipt(by="stage")
        )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "receipt.html", Path(__file__).with_name("receipt.png")
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                shutil.which("chromium") or "chromium",
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                "--window-size=900,370",
                f"--screenshot={target}",
                str(source),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    main()
