"""What the sandbox answers when it refuses, in Stripe's envelope and with Stripe's words as far as they are known."""

from typing import Any


class Refusal(Exception):
    """A request that is refused. `status` is HTTP's; the rest is Stripe's error object."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status, self.kind = message, param, code, status, kind

    def envelope(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.kind}
        if self.code:
            error |= {"code": self.code, "doc_url": f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"}
        if self.param:
            error["param"] = self.param
        return {"error": error}


class Declined(Refusal):
    """A card that said no. Unlike any other refusal it leaves traces: what was done before it stays done."""

    def __init__(self, message: str, *, code: str, decline_code: str | None, about: dict[str, Any]) -> None:
        super().__init__(message, code=code, status=402, kind="card_error")
        self.decline_code, self.about = decline_code, about

    def envelope(self) -> dict[str, Any]:
        error = super().envelope()["error"] | self.about
        return {"error": error | ({"decline_code": self.decline_code} if self.decline_code else {})}


def unknown_parameter(param: str) -> Refusal:
    return Refusal(f"Received unknown parameter: {param}", param=param, code="parameter_unknown")


def missing_parameter(param: str) -> Refusal:
    return Refusal(f"Missing required param: {param}.", param=param, code="parameter_missing")


def no_such(kind: str, object_id: str, *, param: str, status: int = 400) -> Refusal:
    """Stripe answers 404 where the id stands in the path, 400 where it stands in a parameter."""
    return Refusal(f"No such {kind}: '{object_id}'", param=param, code="resource_missing", status=status)


def not_imitated(what: str, param: str) -> Refusal:
    """Stripe takes it; the sandbox does not act on it, and does not pretend to."""
    return Refusal(f"The sandbox does not imitate {what}; Stripe itself may accept it.", param=param, code="sandbox_not_imitated")
