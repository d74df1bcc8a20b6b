"""An audit that could ask about nothing is no clean bill."""

from __future__ import annotations

import audit

KNOWN = {"name": "old", "version": "1.0", "vulns": [{"id": "CVE-0-1", "fix_versions": ["1.1", "2.0"]}]}
CLEAN = {"name": "good", "version": "3", "vulns": []}
UNKNOWN = {"name": "own", "skip_reason": "Dependency not found on PyPI"}


def test_what_the_service_does_not_know_is_not_audited() -> None:
    code, (line,) = audit.verdict({"dependencies": [UNKNOWN]})
    assert code == 2 and "nothing was audited" in line


def test_a_known_vulnerability_is_an_error_that_names_the_way_out() -> None:
    code, lines = audit.verdict({"dependencies": [KNOWN, CLEAN, UNKNOWN]})
    assert code == 1 and lines == [
        "old 1.0: CVE-0-1, mended in 1.1, 2.0",
        "2 packages audited, 1 known vulnerabilities, 1 not audited",
    ]


def test_clean_packages_are_counted() -> None:
    assert audit.verdict({"dependencies": [CLEAN]}) == (
        0,
        ["1 packages audited, 0 known vulnerabilities, 0 not audited"],
    )
