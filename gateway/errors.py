"""What a call can fail of at the gateway alone. The root of the tree, and its laws, are in metering/model/errors.py.

Their facts are attributes of classes, so this module stays out of what is compiled (gateway/compiled.py).
"""

from metering.model.errors import WeighbridgeError


class UpstreamUnreachable(WeighbridgeError):
    """The service behind the gateway could not be reached; the call was not charged."""

    code, http_status, retryable = "upstream_unreachable", 502, True


class UpstreamBusy(WeighbridgeError):
    """The service behind the gateway has as many calls as it can take; this one was not charged."""

    code, http_status, retryable = "upstream_busy", 503, True


class UpstreamBroken(WeighbridgeError):
    """The service behind the gateway gave no proper answer."""

    code, http_status, retryable = "upstream_bad_response", 502, True


class UpstreamTimeout(WeighbridgeError):
    """The service behind the gateway did not answer in time."""

    code, http_status, retryable = "upstream_timeout", 504, True


class ScopeMissing(WeighbridgeError):
    """The key or token does not carry a scope that this route asks for."""

    code, http_status = "scope_missing", 403

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"this route asks for the scope {', '.join(missing)}", missing=missing)
        self.challenge = f'Bearer realm="api", error="insufficient_scope", scope="{" ".join(missing)}"'


class LoopDetected(WeighbridgeError):
    """This request has passed this gateway before: an upstream's target is the gateway itself, or leads back to it."""

    code, http_status = "loop_detected", 508
