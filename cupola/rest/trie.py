"""Route matching: a trie of path segments, so that the time does not grow with the number of operations."""

from typing import Any, Generic, TypeVar

__all__ = ["Trie"]

T = TypeVar("T")


class _Node:
    __slots__ = ("literals", "methods", "names", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Any] = {}
        self.names: dict[str, tuple[str, ...]] = {}


class Trie(Generic[T]):
    """Maps (method, path template) to a value; templates hold `{name}` segments."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, method: str, template: str, value: T) -> None:
        """Raises ValueError when the same method and template were added before."""
        node = self._root
        names = []
        for segment in template.strip("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if method in node.methods:
            raise ValueError(f"{method} {template} is declared twice")
        node.methods[method] = value
        node.names[method] = tuple(names)

    def match(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The value and the values of the path's parameters; a literal segment wins over a parameter."""
        return self._walk(self._root, path.strip("/").split("/"), 0, method, [])

    def _walk(
        self, node: _Node, segments: list[str], at: int, method: str, values: list[str]
    ) -> tuple[T, dict[str, str]] | None:
        while at < len(segments):
            literal = node.literals.get(segments[at])
            if literal is not None:
                if node.parameter is None:
                    node, at = literal, at + 1
                    continue
                found = self._walk(literal, segments, at + 1, method, list(values))
                if found is not None:
                    return found
            if node.parameter is None or not segments[at]:
                return None
            values.append(segments[at])
            node, at = node.parameter, at + 1
        value = node.methods.get(method)
        if value is None:
            return None
        return value, dict(zip(node.names[method], values, strict=True))
