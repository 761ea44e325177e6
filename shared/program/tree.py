"""YAML text → plain content plus the place of everything in it; numbers stay as they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from shared.program.mistakes import Mistake, Path, dotted
from shared.program.values import Number, shown

FILE_BYTES_MAX = 256 * 1024
NESTING_MAX = 20

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(
    _TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_NUMBER = re.compile(
    r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)"
    r"|\.(?:nan|NaN|NAN)|0x[0-9a-fA-F]+|0o[0-7]+",
    re.ASCII,
)


@dataclass(slots=True)
class Tree:
    """A file's content; ``keys`` and ``values`` hold line and column of each path."""

    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, path: Path, *, of_key: bool = False) -> tuple[int, int]:
        """Tell line and column of a path; of what is missing, those of what should hold it."""
        while path and path not in self.values and path not in self.keys:
            path, of_key = path[:-1], True
        first, second = (self.keys, self.values) if of_key else (self.values, self.keys)
        return first.get(path) or second.get(path) or (1, 1)


def read(text: str) -> Tree:
    """Read YAML 1.2 text; what is wrong with the YAML itself is in the tree's mistakes."""
    tree = Tree()
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = NESTING_MAX
    yaml.composer.warn_double_anchors = False  # the walk refuses every anchor, with its line
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        tree.mistakes.append(_syntax_mistake(error))
        return tree
    except ReaderError as error:
        line, column = _line_of(text, error.position)
        tree.mistakes.append(Mistake(line, column, "", "a character that YAML does not allow"))
        return tree
    except (YAMLError, ValueError, OverflowError) as error:  # such as a character \UFFFFFFFF
        tree.mistakes.append(Mistake(1, 1, "", f"is not readable YAML: {error}"))
        return tree
    if root is not None:
        tree.data = _Walk(tree).value(root, ())
    return tree


class _Walk:
    """One pass over the YAML nodes, noting places and refusing what a program file has no use for."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.seen: set[int] = set()

    def value(self, node: Node, path: Path) -> Any:
        """Turn a node and all below it into plain content."""
        aliased = id(node) in self.seen
        empty = isinstance(node, ScalarNode) and node.style is None and not node.value
        # An alias has the place of its anchor, and nothing that of whatever comes next.
        place = self.tree.place(path) if aliased or empty else _place(node)
        self.tree.values[path] = place
        if aliased or getattr(node, "anchor", None):
            # Without them, content is as large as it looks: no file can explode.
            self._refuse(place, path, "anchors and aliases (& and *) are not used here")
            if aliased:
                return None
        self.seen.add(id(node))
        if str(node.tag) not in _TAGS:
            self._refuse(place, path, f"the tag {shown(str(node.tag))} is not used here")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node) if isinstance(node, ScalarNode) else None

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._refuse(_place(key_node), path, "a key must be a text", "key: value")
                continue
            key = key_node.value
            if key in content:
                first = self.tree.keys[(*path, key)][0]
                message = f"is written twice, first in line {first}"
                self._refuse(_place(key_node), (*path, key), message, "once")
                continue
            self.tree.keys[(*path, key)] = _place(key_node)
            content[key] = self.value(value_node, (*path, key))
        return content

    def _refuse(self, place: tuple[int, int], path: Path, message: str, allowed: str = "") -> None:
        self.tree.mistakes.append(Mistake(*place, dotted(path), message, allowed))


def _scalar(node: ScalarNode) -> Any:
    text: str = node.value
    if node.style is not None or str(node.tag) == f"{_TAG}str":
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    return Number(text) if _NUMBER.fullmatch(text) else text


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _line_of(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")


def _syntax_mistake(error: MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if isinstance(error, MaxDepthExceededError):
        return Mistake(line, column, "", "is nested too deeply", f"at most {NESTING_MAX} levels")
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return Mistake(line, column, "", f"is not YAML: {said}")
