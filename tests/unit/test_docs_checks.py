"""docs/checks.md is what the registry says."""

from pathlib import Path

import docs_checks

from saltext_kvmcluster.core.readiness.checks.registry import REGISTRY

PAGE = Path(__file__).parent.parent.parent / "docs" / "checks.md"


def test_the_page_is_as_the_registry_makes_it():
    assert PAGE.read_text(encoding="utf-8") == docs_checks.document(), "run: make docs"


def test_every_check_has_its_section():
    text = docs_checks.document()
    for check in REGISTRY:
        assert f"\n## {check.id}\n" in text and f"| `{check.id}` | {check.severity} |" in text
