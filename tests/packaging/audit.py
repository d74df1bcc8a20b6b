"""``make audit``: known vulnerabilities of what is installed, by pip-audit; what it could not ask about is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--format", "json"]
FOUND, NOT_AUDITED = 1, 2


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines for pip-audit's report: packages that the service does not know are no clean bill."""
    asked = [package for package in report["dependencies"] if "skip_reason" not in package]
    left_out = len(report["dependencies"]) - len(asked)
    if not asked:
        return NOT_AUDITED, [
            "facellava: nothing was audited: the service of known vulnerabilities knows no package here"
        ]
    lines = [
        f"{package['name']} {package['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none'}"
        for package in asked
        for known in package["vulns"]
    ]
    code = FOUND if lines else 0
    return code, [*lines, f"{len(asked)} packages audited, {len(lines)} known vulnerabilities, {left_out} not audited"]


def main() -> int:
    """Run it and print."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        code, lines = NOT_AUDITED, [f"facellava: nothing was audited: {last}"]
    else:
        code, lines = verdict(report)
    print("\n".join(lines), file=sys.stderr if code == NOT_AUDITED else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
