"""Which features of plans an organization may use."""

from pydantic import Field

from billing.operations.operation import Call, Model, Nothing, operation


class FeatureRow(Model):
    key: str
    label: str
    number: int | None = Field(None, description="how many; null: no end, or nothing to count")


class FeatureList(Model):
    features: tuple[FeatureRow, ...]


class FeatureAnswer(Model):
    """`required_plan` is the cheapest plan on sale that has the feature, null where none has; `label` null where nobody knows it."""

    feature: str
    allowed: bool
    required_plan: str | None
    label: str | None
    number: int | None


class AskFeature(Model):
    key: str = Field(max_length=200)


@operation("GET", "/features", name="feature.list")
async def list_features(call: Call, ask: Nothing) -> FeatureList:
    """All that it may use."""
    held = await call.billing.features.of_org(call.org)
    return FeatureList(features=tuple(FeatureRow(key=f.key, label=f.label, number=f.number) for f in held))


@operation("GET", "/features/{key}", name="feature.check")
async def check(call: Call, ask: AskFeature) -> FeatureAnswer:
    """Whether it may use one, and which plan to buy for it. A feature that no plan has is not allowed."""
    found = await call.billing.features.check(call.org, ask.key)
    return FeatureAnswer(
        feature=found.feature, allowed=found.allowed, required_plan=found.required_plan, label=found.label, number=found.number
    )


OPERATIONS = (list_features, check)
