"""Judges CycloneDX documents by CycloneDX's own library, which shares no code with nodekiln.

Reads one request a line from standard input, JSON: {"document": "PATH"} or {"purl": "TEXT"}.
Answers each with one line of JSON:

- for a document {"errors": [...]}: what the strict JSON schema validator for version 1.6 finds, and
  references that lead nowhere or occur twice, which the schema cannot express;
- for a package URL its parts and its canonical form, or {"errors": [...]}.
"""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


def components(parts):
    for part in parts:
        yield part
        yield from components(part.get("components", []))


def reference_errors(document):
    roots = document.get("components", []) + [document["metadata"]["component"]]
    references = [part["bom-ref"] for part in components(roots) if "bom-ref" in part]
    known = set(references)
    if len(known) != len(references):
        yield "a bom-ref occurs twice"
    for dependency in document.get("dependencies", []):
        for reference in [dependency["ref"], *dependency.get("dependsOn", [])]:
            if reference not in known:
                yield f"dependency {reference} leads nowhere"
    for composition in document.get("compositions", []):
        for reference in composition.get("assemblies", []) + composition.get("dependencies", []):
            if reference not in known:
                yield f"composition {reference} leads nowhere"


def judge_document(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    errors = VALIDATOR.validate_str(text, all_errors=True) or ()
    found = [str(error) for error in errors]
    if not found:
        found.extend(reference_errors(json.loads(text)))
    return {"errors": found}


def judge_purl(text):
    try:
        purl = PackageURL.from_string(text)
    except ValueError as error:
        return {"errors": [str(error)]}
    return {"parts": purl.to_dict(), "canonical": purl.to_string(), "errors": []}


VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)

for line in sys.stdin:
    request = json.loads(line)
    if "document" in request:
        answer = judge_document(request["document"])
    else:
        answer = judge_purl(request["purl"])
    print(json.dumps(answer), flush=True)
