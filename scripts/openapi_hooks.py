"""What the OpenAPI document cannot say of the interface; for scripts/openapi-check.sh."""

import copy
import re

import schemathesis

# Codes of a refusal that the request itself brings about, by what it asks for.
FRESHNESS = ("min_index", "max_staleness_ms", "pygmy-min-index", "pygmy-max-staleness-ms")
PATIENCE = {
    "too_stale": FRESHNESS,
    "timeout": (*FRESHNESS, "pygmy-timeout-ms"),
    "no_leader": ("pygmy-timeout-ms",),
}


@schemathesis.hook
def map_body(context, body):
    """Has orders ask for few numbers, of which most are items: others would all end with 404."""
    # What stands for "no body" is one object, and a copy of it would be another.
    if not isinstance(body, dict):
        return body
    body = copy.deepcopy(body)
    for line in lines_of(body):
        if type(line.get("item")) is int and 0 <= line["item"] < 2**64:
            line["item"] = 1 + line["item"] % 9
    return body


def lines_of(body):
    """The lines of an order, or of the orders of a batch, as far as it is one."""
    if not isinstance(body, dict):
        return []
    orders = body.get("orders")
    nested = [lines_of(order) for order in orders] if isinstance(orders, list) else []
    own = body.get("lines")
    own = [line for line in own if isinstance(line, dict)] if isinstance(own, list) else []
    return [*own, *(line for lines in nested for line in lines)]


@schemathesis.hook
def filter_case(context, case):
    """Leaves out requests that are right by the document and wrong in fact, or the reverse."""
    headers = {name.lower() for name in case.headers or {}}
    declared = {parameter.name.lower() for parameter in case.operation.headers}
    # HTTP has everybody pass over a header that nobody knows, and trims its value.
    if not headers <= declared | {"content-type", "accept"}:
        return False
    values = (case.headers or {}).values()
    if any(isinstance(value, str) and value != value.strip(" \t") for value in values):
        return False
    # schemathesis takes the quotes from an entity tag and still holds it to be right.
    tag = (case.headers or {}).get("If-Match")
    if isinstance(tag, str) and not re.fullmatch(r'\*|"[^"]+"', tag):
        return False
    if has_whole_float(case.body):
        return False
    if {"if-match", "if-none-match"} <= headers and case.method == "PUT":
        return False
    # Cursors are not for making up, and what is looked for has a letter or a digit.
    query = case.query or {}
    if isinstance(query.get("cursor"), str):
        return False
    if isinstance(query.get("q"), str) and not any(char.isalnum() for char in query["q"]):
        return False
    # All that comes after would be refused.
    if case.operation.path == "/v1/cluster/maintenance" and case.body == {"on": True}:
        return False
    return keys_agree(case.body, headers)


@schemathesis.hook
def before_call(context, case, **kwargs):
    """Sends headers as text: an order's number that is taken for an X-Request-Id is one otherwise."""
    for name, value in list((case.headers or {}).items()):
        if type(value) is int:
            case.headers[name] = str(value)


def has_whole_float(body):
    """Whether a number is written as 1.0, which is an integer to JSON Schema and a wrong type here."""
    if isinstance(body, dict):
        return any(has_whole_float(value) for value in body.values())
    if isinstance(body, list):
        return any(has_whole_float(value) for value in body)
    return isinstance(body, float) and body.is_integer()


def keys_agree(body, headers):
    """Whether the orders of a batch all have keys, each another one, or none has."""
    orders = body.get("orders") if isinstance(body, dict) else None
    if not isinstance(orders, list) or not all(isinstance(order, dict) for order in orders):
        return True
    keys = [order["idempotency_key"] for order in orders if order.get("idempotency_key") is not None]
    if not keys:
        return True
    if not all(isinstance(key, str) for key in keys):
        return True
    distinct = len(keys) == len(orders) == len(set(keys))
    return distinct and "idempotency-key" not in headers


@schemathesis.check
def unavailable_only_when_asked_for(context, response, case):
    """A cluster that is well refuses with 503 or 504 only what asks for more than there is."""
    if response.status_code not in (503, 504):
        return
    asked = {name.lower() for name in [*(case.headers or {}), *(case.query or {})]}
    code = response.json().get("code")
    if not asked.intersection(PATIENCE.get(code, ())):
        raise AssertionError(f"{response.status_code} {code} without a reason in the request")


@schemathesis.check
def every_reply_says_who_and_which(context, response, case):
    """What every reply carries, errors of the connection's own included."""
    for name in ("x-request-id", "pygmy-node"):
        if name not in response.headers:
            raise AssertionError(f"the reply has no {name}")


@schemathesis.check
def every_error_is_a_problem(context, response, case):
    """An error is a problem document, whose status and Retry-After agree with the reply's."""
    status = response.status_code
    if status < 400 or response.request.method == "HEAD":
        return
    kind = response.headers["content-type"][0]
    if status == 503 and kind == "application/json" and response.json() == {"Result": "0"}:
        return
    if kind != "application/problem+json":
        raise AssertionError(f"{status} is {kind}")
    problem = response.json()
    if problem["status"] != status or problem["type"] != f"about:blank#{problem['code']}":
        raise AssertionError(f"{status} says {problem}")
    if status in (429, 503) and "retry-after" not in response.headers:
        raise AssertionError(f"{status} without Retry-After")
    is_read = response.request.method in ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY") and "/buy/" not in case.path
    if not is_read and "outcome" not in problem:
        raise AssertionError(f"{status} of a write does not tell its outcome: {problem}")
