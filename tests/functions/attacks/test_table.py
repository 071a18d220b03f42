"""What the documentation says of attacks is what the tests try."""

from __future__ import annotations

from pathlib import Path

from .corpus import ATTACKS, WHOLE, table

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "functions-walls.md"
WHOLE_TESTS = ROOT / "tests" / "e2e" / "test_functions_attacks.py"


def test_the_page_has_the_table() -> None:
    told = "python tests/functions/attacks/corpus.py prints the table of the page anew"
    assert f"\n{table()}\n" in PAGE.read_text("utf-8"), told


def test_names_are_unique_and_tests_exist() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    source = WHOLE_TESTS.read_text("utf-8")
    assert [test for *_, test in WHOLE if f"def {test}(" not in source] == []
