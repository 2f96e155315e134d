"""The last result of each row on each processor: kept in results.json, shown in results.md.

A run of `python -m benchmarks` replaces the rows that it measured, of its own processor alone.
"""

import datetime
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
DATA, PAGE = FOLDER / "results.json", FOLDER / "results.md"
PICTURE = FOLDER / "learning.png"

# By processor: its software, rows (date and cell, by number) and tables (date and lines, by title).
Results = dict[str, dict[str, Any]]


def processor() -> str:
    """The cores of this machine, its processor, and the widest instructions for bf16."""
    import torch

    from tinyllm.common.os_processes import available_cores

    has = torch.cpu.get_capabilities()
    fast = next((f for f in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if has.get(f)), "")
    name = " ".join(str(has.get("cpu_name") or "CPU").split())
    widest = f", {fast.upper().replace('_', ' ')}" if fast else ""
    return f"{available_cores()} cores of {name}{widest}"


def load(path: Path = DATA) -> Results:
    """The results on record; none if there are none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(results: Results, where: str, software: str) -> dict[str, Any]:
    """What is on record for a processor, to be added to."""
    held = results.setdefault(where, {"rows": {}, "tables": {}})
    held["software"] = software
    return held


def add_row(held: dict[str, Any], number: str, cell: str) -> None:
    """Replace a row of one processor."""
    held["rows"][number] = {"date": today(), "cell": cell}


def add_table(held: dict[str, Any], title: str, lines: str) -> None:
    """Replace a table of one processor."""
    held["tables"][title] = {"date": today(), "lines": lines}


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def save(results: Results, head: list[tuple[str, str, str, str]]) -> None:
    """Write results.json and results.md.

    Args:
        head: number, measure, peer and goal of each row, in the order of the page.
    """
    DATA.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(results, head), encoding="utf-8")


def page(results: Results, head: list[tuple[str, str, str, str]]) -> str:
    """The page: the picture, one table of all processors, and the tables of each."""
    lines = ["# Results", ""]
    if PICTURE.exists():
        lines += [f"![Learning the same text from scratch]({PICTURE.name})", ""]
    lines += [
        "`python -m benchmarks` (`make bench`) writes this page. Both programs of a row take",
        "turns. A cell holds the median of the rounds' ratios, ours to the peer's, its quartiles,",
        "our speed and the day. Each column holds the last results of one processor; results of",
        "different days are of different versions of this project.",
        "",
        *table(results, head),
    ]
    for where, held in results.items():
        for title, found in held["tables"].items():
            lines += ["", f"## {title}", "", f"{where}, {found['date']}", "", found["lines"]]
    return "\n".join([*lines, ""])


def table(results: Results, head: list[tuple[str, str, str, str]]) -> list[str]:
    """One line per row, one column per processor."""
    names = [f"{where}; {held['software']}" for where, held in results.items()]
    lines = [
        f"| {' | '.join(['#', 'measure', 'peer', 'goal', *names])} |",
        "|---" * (4 + len(names)) + "|",
    ]
    for number, *described in head:
        cells = [held["rows"].get(number) for held in results.values()]
        if any(cells):
            shown = [f"{cell['cell']}; {cell['date']}" if cell else "" for cell in cells]
            lines.append(f"| {' | '.join([number, *described, *shown])} |")
    return lines
