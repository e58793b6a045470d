"""The inside of a peer's process: reads requests from standard input, answers on standard output, a line of JSON each.

    {"prepare": {...}}                         -> {"case": 0, "facts": {...}}
    {"run": 0, "first_call": 3, "num_calls": 2} -> {"seconds": [0.1, 0.1]}
    {"forget": 0}                              -> {"facts": {...}}

What goes wrong is answered {"error": "..."}. Run by any Python 3.8 or newer, without gnnfast: it needs the standard
library alone, and the peer's module, given by its name or by its file.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys


def load(peer):
    """A module by name, or by the path of its file."""
    if not peer.endswith(".py"):
        return importlib.import_module(peer)
    spec = importlib.util.spec_from_file_location("peer", peer)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(peer, requests, answers):
    """Answers requests until there are no more.

    `peer.prepare(request)` gives a function that makes call number i and returns the seconds that count, and facts.
    What is known after the calls alone comes from the function's `closing_facts()`, where it has that.
    """
    cases: dict = {}
    for line in requests:
        request = json.loads(line)
        try:
            if "prepare" in request:
                number = max(cases, default=-1) + 1
                cases[number], facts = peer.prepare(request["prepare"])
                answer = {"case": number, "facts": facts}
            elif "run" in request:
                first = request["first_call"]
                calls = range(first, first + request["num_calls"])
                answer = {"seconds": [cases[request["run"]](i) for i in calls]}
            else:
                answer = {"facts": getattr(cases.pop(request["forget"]), "closing_facts", dict)()}
        except Exception as error:
            message = " ".join(str(error).split())
            answer = {"error": f"{type(error).__name__}: {message}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main():
    # Answers go where standard output went; what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1].endswith(".py"):
        sys.path.pop(0)  # the folder of this file, whose modules have names of packages
    serve(load(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
