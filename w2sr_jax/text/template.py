"""Runs a chat template in a process of its own, since a template is a program that came with a download.

Run as a script. JSON on standard input: `{"template": …, "variables": {…}, "requests": [{…}, …]}`, where a request holds the
variables of one rendering; JSON on standard output: a list of `{"text": …}` or `{"error": …}`. A template has what transformers
gives it: Jinja's immutable sandbox with loop controls, `raise_exception`, `tojson`, `strftime_now` and the `generation` tag. The
date is always `DATE` and nothing is random, so that a prompt depends neither on the day nor on chance.

Its bounds: the sandbox reaches neither files nor Python's internals; the kernel ends the process after `SECONDS` of processor
time or at `MEMORY` bytes of address space, and refuses every write to a file; a text longer than `LONGEST` is an error. Imports
nothing of this package.
"""

import datetime
import json
import resource
import sys
from typing import Any

import jinja2
from jinja2 import ext, nodes, sandbox, utils

DATE = datetime.datetime(2024, 7, 26)
"""The default date of Llama 3's own template."""
SECONDS = 3
MEMORY = 2**30
LONGEST = 1_000_000


class Generation(ext.Extension):
    """The tag `{% generation %}…{% endgeneration %}` around an assistant's words; it renders its content and nothing else."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Namespace(utils.Namespace):
    """Jinja's namespace, without names that begin with an underscore, with which a template could reach Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **kwargs):
            Namespace._check(name)
        utils.Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        Namespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if str(name).startswith("_"):
            raise jinja2.TemplateError(f"a namespace cannot have an attribute {name!r}")


def compiled(template: str) -> jinja2.Template:
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = _json
    del environment.filters["random"], environment.globals["lipsum"]  # a prompt does not depend on chance
    environment.globals.update(raise_exception=_raise, strftime_now=DATE.strftime, namespace=Namespace)
    return environment.from_string(template)


def answer(template: str, variables: dict[str, Any], requests: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The text, or the error, of each request."""
    try:
        program = compiled(template)
    except Exception as error:
        return [{"error": _message(error)} for _ in requests]
    return [_rendered(program, variables, request) for request in requests]


def _rendered(program: jinja2.Template, variables: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    try:
        parts, length = [], 0
        for part in program.generate({**variables, "tools": None, "documents": None, **request}):
            parts.append(part)
            length += len(part)
            if length > LONGEST:
                return {"error": f"it writes more than {LONGEST:,} characters"}
    except Exception as error:  # a template may raise anything
        return {"error": _message(error)}
    return {"text": "".join(parts)}


def _message(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return f"{words} (line {line})" if line else words


def _raise(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def main() -> None:
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Not settable on macOS; there the time limit is what remains.
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(answer(job["template"], job["variables"], job["requests"]), sys.stdout)


if __name__ == "__main__":
    main()
