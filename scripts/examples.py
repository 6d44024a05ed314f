"""Runs the examples of a document: each ```sh block that calls curl and nothing of ours.

A ```json or ```text block right after it is the reply of its last request. Values that differ from run
to run count by their type. A reply of another kind, a problem that is not documented, an endpoint
without an example: each is an error.
"""

import json
import re
import shlex
import subprocess
import sys

PUBLISHED = "http://127.0.0.1:8080"
WIDTH = 104
TIMEOUT_S = 60
# Their values belong to one run.
VOLATILE = {
    "ages_ms", "applied_index", "at", "cluster_id", "created_at", "current_version", "ended_at", "expires_at", "from",
    "hash", "index", "instance", "lag", "last_heard_ms", "leader", "millis", "next_after", "next_cursor", "node",
    "placed_at", "cancelled_at", "api", "peer", "records", "state_hash", "term", "Time", "to",
    "took_ms", "updated_at", "version",
}
# The document that would have to show them is the interface itself.
WITHOUT_EXAMPLE = {"/openapi.json", "/docs", "/docs/{file}"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


class Wrong(Exception):
    """What does not fit."""


def examples(text):
    """Pairs of a block with requests and the block with its reply, if one follows."""
    blocks = list(BLOCK.finditer(text))
    for place, block in enumerate(blocks):
        if block[1] != "sh" or "curl " not in block[2] or re.search(r"\b(make|pygmy) ", block[2]):
            continue
        after = blocks[place + 1] if place + 1 < len(blocks) else None
        if after and (after[1] == "sh" or text[block.end() : after.start()].strip()):
            after = None
        yield block, after


def run(code, url):
    script = "curl() { command curl --silent --show-error --max-time 20 \"$@\"; echo; }\n"
    script += code.replace(PUBLISHED, url)
    ran = subprocess.run(
        ["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    # `sed 6q` ends a feed: curl says so, and bash not.
    if ran.returncode != 0:
        raise Wrong(f"ended with {ran.returncode}: {ran.stderr.strip()}")
    return ran.stdout


def as_json(text):
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None


def without_numbers(text):
    """Sentences say versions, counts and hashes too."""
    return re.sub(r"[0-9a-f]{32}|\d+", "0", text)


def compare(expected, got, path=""):
    key = path.rsplit("/", 1)[-1]
    if key in VOLATILE:
        if type(expected) is not type(got) and None not in (expected, got):
            raise Wrong(f"{path}: {got!r} is not like {expected!r}")
    elif isinstance(expected, dict) and isinstance(got, dict):
        if expected.keys() != got.keys():
            raise Wrong(f"{path}: has {sorted(got)}, documented are {sorted(expected)}")
        for name in expected:
            compare(expected[name], got[name], f"{path}/{name}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for place, (one, other) in enumerate(zip(expected, got)):
            compare(one, other, f"{path}/{place}")
    elif key == "detail":
        if without_numbers(expected) != without_numbers(got):
            raise Wrong(f"{path}: {got!r}, documented is {expected!r}")
    elif expected != got:
        raise Wrong(f"{path}: {got!r}, documented is {expected!r}")


def pretty(value, indent=0):
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, (dict, list)):
        return line
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        rows = [f"{json.dumps(k)}: {pretty(v, indent + 2)}" for k, v in value.items()]
        return "{\n" + ",\n".join(pad + row for row in rows) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + pretty(v, indent + 2) for v in value) + "\n" + " " * indent + "]"


def recorded(output):
    value = as_json(output)
    if value is not None and len(output.strip().splitlines()) == 1:
        return f"```json\n{pretty(value)}\n```\n"
    return f"```text\n{output.strip()}\n```\n" if output.strip() else ""


def fits(output, after):
    if after is None:
        for line in output.splitlines():
            problem = as_json(line)
            if isinstance(problem, dict) and "outcome" in problem and problem.get("status", 0) >= 400:
                raise Wrong(f"is answered with a problem: {line}")
    elif after[1] == "json":
        compare(json.loads(after[2]), as_json(output))
    else:
        if without_numbers(after[2].strip()) != without_numbers(output.strip()):
            raise Wrong(f"answers\n{output.strip()}\ndocumented is\n{after[2].strip()}")


def requests(code):
    """Method and path of each request in a block."""
    for command in re.split(r"\n(?=curl )|\|\s*(?=curl )", code.replace("\\\n", " ")):
        words = shlex.split(command, comments=True)
        if "curl" not in words:
            continue
        words = words[words.index("curl") :]
        url = next(word for word in words if word.startswith(PUBLISHED))
        method = "POST" if {"-d", "--data-binary"} & set(words) else "GET"
        if "-X" in words:
            method = words[words.index("-X") + 1]
        yield method, url[len(PUBLISHED) :].split("?")[0]


def uncovered(text, url):
    """Operations of the interface without an example."""
    document = json.loads(run(f"curl {PUBLISHED}/openapi.json", url))
    made = [request for block, _ in examples(text) for request in requests(block[2])]
    for path, item in document["paths"].items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$")
        for method in item.keys() & {"get", "put", "post", "delete", "patch"}:
            if path not in WITHOUT_EXAMPLE and not any(
                made_method == method.upper() and pattern.match(made_path)
                for made_method, made_path in made
            ):
                yield f"{method.upper()} {path}"


def main():
    name, url, *options = sys.argv[1:]
    with open(name, encoding="utf-8") as file:
        text = file.read()
    record = options == ["--record"] and name.endswith("EXAMPLES.md")
    failures, count, out, done = [], 0, [], 0
    for block, after in examples(text):
        count += 1
        line = text[: block.start()].count("\n") + 2
        try:
            output = run(block[2], url)
            if record:
                reply = recorded(output)
                out += [text[done : block.end()], "\n" if reply else "", reply]
                done = (after or block).end()
            else:
                fits(output, after)
        except (Wrong, subprocess.TimeoutExpired) as wrong:
            failures.append(f"{name}:{line}: {wrong}")
    if name.endswith("EXAMPLES.md"):
        failures += [f"{name}: no example of {operation}" for operation in uncovered(text, url)]
    if record and not failures:
        with open(name, "w", encoding="utf-8") as file:
            file.write("".join(out) + text[done:])
    print(*failures, f"{name}: {count} examples, {len(failures)} failures", sep="\n")
    if failures or not count:
        sys.exit(1)


main()
