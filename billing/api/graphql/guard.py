"""How much one document may ask for: its length, its depth, its fields, and what the rows it may bring cost. Pure.

A fragment counts wherever it is spread, an alias as the field it names. What @skip leaves out counts too.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)

from billing.api.graphql.schema import PREFIX
from billing.model.rowquery import DEFAULT_LIMIT, MOST_ROWS
from metering.model.errors import WeighbridgeError

LONGEST, MOST_TOKENS = 20_000, 3_000
DEEPEST, MOST_FIELDS, MOST_ROOTS, HIGHEST_COST = 10, 500, 20, 50_000
_ROWS = {"usage": 10, "quota": 10, "invoices": 50, "lines": 10, "features": 10}  # where no limit is said


class TooCostly(WeighbridgeError):
    """This document asks for too much at once."""

    code, http_status = "too_costly", 400


def check_cost(document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
    """What the operation costs: a field is one, times the rows it may come in. Raises TooCostly. The document was found valid."""
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    cost = _Scales(fragments, variables).weigh(operation.selection_set, depth=1, described=False)
    if cost > HIGHEST_COST:
        raise TooCostly(f"this may bring {cost:,} values, and {HIGHEST_COST:,} are allowed: ask for fewer fields, or set a lower limit")
    return cost


class _Scales:
    def __init__(self, fragments: Mapping[str, FragmentDefinitionNode], variables: Mapping[str, Any]) -> None:
        self._fragments, self._variables = fragments, variables
        self._fields, self._roots = 0, 0

    def weigh(self, selected: SelectionSetNode | None, *, depth: int, described: bool) -> int:
        """`described`: inside __schema or __type, whose depth a rule of the library bounds."""
        if selected is None:
            return 0
        cost = 0
        for each in selected.selections:
            if isinstance(each, FieldNode):
                cost += self._field(each, depth, described=described)
            elif isinstance(each, InlineFragmentNode):
                cost += self.weigh(each.selection_set, depth=depth, described=described)
            elif isinstance(each, FragmentSpreadNode):
                self._count()
                cost += self.weigh(self._fragments[each.name.value].selection_set, depth=depth, described=described)
        return cost

    def _field(self, field: FieldNode, depth: int, *, described: bool) -> int:
        self._count()
        self._roots += depth == 1
        described = described or field.name.value.startswith("__")
        if self._roots > MOST_ROOTS:
            raise TooCostly(f"this asks for more than {MOST_ROOTS} fields of the root at once")
        if depth > DEEPEST and not described:
            raise TooCostly(f"this is nested deeper than {DEEPEST}")
        inside = self.weigh(field.selection_set, depth=depth + 1, described=described)
        return 1 + (inside if described else inside * self._rows(field))

    def _count(self) -> None:
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise TooCostly(f"this asks for more than {MOST_FIELDS} fields, fragments counted wherever they stand")

    def _rows(self, field: FieldNode) -> int:
        """The rows that what is inside may come in. Of an aggregate they are counted at its `nodes`, in hundreds here."""
        name, limit = field.name.value, self._limit(field)
        if name.endswith("_aggregate"):
            return max(1, -(-(limit or 0) // DEFAULT_LIMIT))
        if limit is not None:
            return max(1, limit)
        return DEFAULT_LIMIT if name.startswith(PREFIX) or name == "nodes" else _ROWS.get(name, 1)

    def _limit(self, field: FieldNode) -> int | None:
        """As it is said; a variable whose default decides counts as the highest there is."""
        for argument in field.arguments or ():
            if argument.name.value == "limit":
                said = argument.value
                if isinstance(said, VariableNode):
                    value = self._variables.get(said.name.value, MOST_ROWS)
                    return value if isinstance(value, int) else None
                return int(said.value) if isinstance(said, IntValueNode) else None
        return None
