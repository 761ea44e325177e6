"""Program file → ``Program``, or every mistake of the file at once."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.program import rules
from shared.program.mistakes import Finding, Mistake, Path, ProgramError, dotted
from shared.program.model import Program
from shared.program.tree import FILE_BYTES_MAX, Tree, read
from shared.program.values import did_you_mean, shown


def load(path: File | str) -> Program:
    """Read and check a program file; raises ``ProgramError`` with all its mistakes."""
    file = File(path)
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProgramError(str(file), [_whole(f"cannot be read: {reason}")]) from error
    if len(content) > FILE_BYTES_MAX:
        raise ProgramError(str(file), [_whole("is too large", f"{FILE_BYTES_MAX // 1024} KiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        column = error.start - content[: error.start].rfind(b"\n")
        mistake = Mistake(line, column, "", "is not UTF-8", "save the file as UTF-8")
        raise ProgramError(str(file), [mistake]) from error
    return parse(text, str(file))


def parse(text: str, name: str = "program") -> Program:
    """Check the text of a program file; ``name`` is what messages call it."""
    tree = read(text)
    if tree.mistakes and tree.data is None:
        raise ProgramError(name, tree.mistakes)
    if tree.data is None:
        raise ProgramError(name, [_whole("is empty", "the rules of a program")])
    program, findings = _validate(tree)
    findings += rules.check(tree.data)
    findings += rules.not_yet(tree.data)
    mistakes = tree.mistakes + _placed(tree, findings)
    if program is None or mistakes:
        raise ProgramError(name, mistakes)
    return program


def _validate(tree: Tree) -> tuple[Program | None, list[Finding]]:
    try:
        return Program.model_validate(tree.data), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)
        return None, [_finding(detail) for detail in details]


def _finding(detail: ErrorDetails) -> Finding:
    path = detail["loc"]
    if path[-1:] == ("[key]",):  # pydantic's mark for "the key itself"
        path = path[:-1]
    context = detail.get("ctx", {})
    match detail["type"]:
        case "mistake":
            return Finding(path, context["said"], context["allowed"])
        case "missing":
            return Finding(path, "is missing")
        case "extra_forbidden":
            known = _keys_at(path[:-1])
            hint = did_you_mean(str(path[-1]), known)
            return Finding(path, f"is not a key of this section{hint}", ", ".join(known))
        case _:
            value = detail["input"]
            message = "is empty" if value is None else f"must be a mapping, not {shown(value)}"
            return Finding(path, message, ", ".join(_keys_at(path)) or "key: value pairs")


def _keys_at(path: Path) -> list[str]:
    """Name the keys that the section at a path may have."""
    section: type[BaseModel] | None = Program
    for step in path:
        if section is None:
            return []
        by_key = {field.alias or name: field for name, field in section.model_fields.items()}
        if isinstance(step, str) and step in by_key:
            section = section_of(by_key[step].annotation)
    if section is None:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Find the section that an annotation is made of, through lists, mappings and options."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_of, get_args(annotation))), None)


def _placed(tree: Tree, findings: list[Finding]) -> list[Mistake]:
    mistakes: dict[tuple[str, str], Mistake] = {}
    for finding in findings:
        value = _value_at(tree.data, finding.path)
        of_key = isinstance(value, dict | list) or "not a key" in finding.message
        line, column = tree.place(finding.path, of_key=of_key)
        field = dotted(finding.path)
        mistake = Mistake(line, column, field, finding.message, finding.allowed)
        # Field check and rule may both miss the same line: once is enough.
        mistakes.setdefault((field, finding.message.partition(":")[0]), mistake)
    return list(mistakes.values())


def _value_at(data: Any, path: Path) -> Any:
    return rules.Raw(data).at(*path)


def _whole(message: str, allowed: str = "") -> Mistake:
    return Mistake(0, 0, "", message, allowed)
