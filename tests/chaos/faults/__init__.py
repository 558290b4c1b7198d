"""All faults, one file a family: what each lists as FAULTS."""

from tests.chaos.fault import Fault

from . import aggregator, gateway, postgres, store, stripe, upstream

_FAMILIES = (gateway, store, postgres, aggregator, stripe, upstream)


def families() -> dict[str, list[Fault]]:
    """File name -> its faults, in the order of its list."""
    return {module.__name__.rpartition(".")[2]: [kind() for kind in module.FAULTS] for module in _FAMILIES}
