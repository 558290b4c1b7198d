"""What an organization pays with. Cards are typed at Stripe, never here."""

from pydantic import Field

from billing.model.payment import BRANDS, PaymentMethod
from billing.model.token import Scope
from billing.operations.customers import PageAtStripe
from billing.operations.operation import Call, Model, Nothing, operation
from billing.services.ports_stripe import NoStripe, NoSuchPaymentMethod, PaymentMethodRefused, StripeFailed

_AT_STRIPE = (NoStripe, StripeFailed)


class Method(Model):
    """`brand` as people call it; of a bank account its bank. `title`: Visa ending in 4242."""

    id: str
    type: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    default: bool
    title: str


class MethodList(Model):
    payment_methods: tuple[Method, ...]


class AskMethod(Model):
    method: str = Field(min_length=1, max_length=100, description="pm_…")


class AttachMethod(Model):
    token: str = Field(pattern=r"^pm_[A-Za-z0-9_]{1,100}$", description="a payment method that was made at Stripe, as Stripe.js does")


@operation("GET", "/payment-methods", name="payment.list", by_token=True, errors=(StripeFailed,))
async def list_all(call: Call, ask: Nothing) -> MethodList:
    """Those on file, the default first: as Stripe has them now; without Stripe, as it told last."""
    return MethodList(payment_methods=tuple(method_answer(each) for each in await call.billing.payment_methods.all(call.org)))


@operation("POST", "/payment-methods/setup", name="payment.add", need=Scope.BILLING, errors=_AT_STRIPE)
async def add(call: Call, ask: Nothing) -> PageAtStripe:
    """A page at Stripe on which one is added."""
    return PageAtStripe(url=await call.billing.payment_methods.setup_url(call.org, back_to=call.facts.back_to))


@operation(
    "POST", "/payment-methods", name="payment.attach", need=Scope.BILLING, status=201, errors=(PaymentMethodRefused, *_AT_STRIPE)
)  # fmt: skip
async def attach(call: Call, ask: AttachMethod) -> Method:
    """One that was made at Stripe belongs to the customer from now on; the first is charged by default."""
    return method_answer(await call.billing.payment_methods.attach(call.org, ask.token))


@operation(
    "POST", "/payment-methods/{method}/default", name="payment.default", need=Scope.BILLING, errors=(NoSuchPaymentMethod, *_AT_STRIPE)
)  # fmt: skip
async def set_default(call: Call, ask: AskMethod) -> Method:
    """The one that is charged."""
    return method_answer(await call.billing.payment_methods.set_default(call.org, ask.method))


@operation(
    "DELETE", "/payment-methods/{method}", name="payment.remove", need=Scope.BILLING, errors=(NoSuchPaymentMethod, *_AT_STRIPE)
)  # fmt: skip
async def remove(call: Call, ask: AskMethod) -> Method:
    """It is never charged again."""
    return method_answer(await call.billing.payment_methods.remove(call.org, ask.method))


def method_answer(method: PaymentMethod) -> Method:
    return Method(
        id=method.id, type=method.type, brand=BRANDS.get(method.brand or "", method.brand), last4=method.last4, exp_month=method.exp_month,
        exp_year=method.exp_year, default=method.default, title=method.title,
    )  # fmt: skip


OPERATIONS = (list_all, add, attach, set_default, remove)
