"""`jobset_schema.py CRD FILE`: a JobSet against the schema of its custom resource definition, unknown fields refused, and the
job in it against that of Kubernetes. Run by validate.py with an interpreter that has
kubernetes-validate, jsonschema and pyyaml."""

import sys
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.33"


def strict(schema: Any) -> Any:
    """The schema with fields refused that it does not name, and Kubernetes' own words for "a number or a text" understood."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if closed.get("x-kubernetes-int-or-string"):
        closed = {name: value for name, value in closed.items() if name not in ("anyOf", "pattern", "type")}
    return {name: strict(value) for name, value in closed.items()}


def faults(definition: Any, jobset: Any) -> list[str]:
    version = next(each for each in definition["spec"]["versions"] if each["name"] == jobset["apiVersion"].partition("/")[2])
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    errors = jsonschema.Draft202012Validator(schema).iter_errors(jobset)
    said = [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in errors]
    for replicated in jobset["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": replicated["template"]["spec"]}
        try:
            kubernetes_validate.validate(job, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            said.append(f"job: {error!s:.200}")
    return said


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as crd, open(sys.argv[2], encoding="utf-8") as file:
        said = faults(yaml.safe_load(crd), yaml.safe_load(file))
    print("\n".join(said))
    sys.exit(bool(said))
