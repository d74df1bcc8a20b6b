"""How the expression of a clip changes: ``python benchmarks/courses.py FACES [--model default] [--json OUT]``.

The held-out rendered clips of the open faces, two seconds each: most begin neutral and come to an expression. First the
course that the report states, beside what was rendered; then free questions (``language.toml``, in words that are not
taught): whether the answer names the report's expressions in its order, or says yes and no as the report does; and the
same of three questions that are taught.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from language import HERE

import facellava
from facellava import tasks
from facellava.face import largest
from facellava.instruct.open_faces import read_clips

EXPRESSIONS = re.compile("|".join(tasks.get("expression").names))


def rendered(faces: Path) -> Iterator[tuple[str, Path, str | None]]:
    """(id, path, expression that the clip comes to); None where it is too faint to be judged."""
    for frames in read_clips(faces, 24):
        seen = {face.expression for face in frames if face.expression not in (None, "neutral")}
        still = all(face.expression == "neutral" for face in frames)
        if frames[0].split == "test":
            yield frames[0].id.split("@")[0], frames[0].path, "neutral" if still else next(iter(seen), None)


def fits(course: list[str], expression: str) -> bool:
    """Whether a stated course is that of a clip which begins neutral and comes to an expression."""
    if expression == "neutral":
        return course == ["neutral"]
    return course[:2] == ["neutral", expression]


def asked(model: facellava.Analyzer, path: Path, questions: dict[str, Any]) -> dict[str, Any]:
    """The course that the report of one clip states, and answers about it."""
    seen = model.engine.look(largest(model.clips(path)[1]))
    line = re.search(r"^Course: (.*)$", seen.report, re.MULTILINE)
    course = line[1].split(", ") if line else []
    answers = {
        question: "".join(model.engine.ask(seen, question, max_new_tokens=60)).strip()
        for question in [*questions["ask"], *questions["changes"], *questions["taught"].values()]
    }
    wanted = {"whole": course, "first": course[:1], "last": course[-1:]}
    taught = {kind: EXPRESSIONS.findall(answers[ask]) == wanted[kind] for kind, ask in questions["taught"].items()}
    told = sum(EXPRESSIONS.findall(answers[question]) == course for question in questions["ask"])
    yes = "Yes" if len(course) > 1 else "No"
    agree = sum(answers[question].startswith(yes) for question in questions["changes"])
    return {"course": course, "answers": answers, "told": told, "agree": agree, "taught": taught}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path, help="write every answer here")
    args = parser.parse_args()
    model = facellava.load(None if args.model == "default" else args.model)
    questions = tomllib.loads((HERE / "language.toml").read_text(encoding="utf-8"))["course"]
    rows = [
        {"clip": name, "rendered": expression, **asked(model, path, questions)}
        for name, path, expression in rendered(args.faces)
    ]
    plain = [row for row in rows if row["rendered"] is not None]
    right = sum(fits(row["course"], row["rendered"]) for row in plain)
    print(f"the report states the course that was rendered: {right} of {len(plain)} clips")
    with_course = [row for row in rows if row["course"]]
    for key, name in (("told", "ask"), ("agree", "changes")):
        total = len(with_course) * len(questions[name])
        print(f"answers that agree with the report ({name}): {sum(row[key] for row in with_course)} of {total}")
    for kind, ask in questions["taught"].items():
        print(f"taught, {ask!r}: {sum(row['taught'][kind] for row in with_course)} of {len(with_course)}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
