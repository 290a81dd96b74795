"""Write a small synthetic FHIR bulk export, the same bytes every time: ``python make_sample.py FOLDER [--huge]``.

Nobody's data: names, dates and ids come from a seeded generator. The export is as untidy as real ones get: broken
JSON, resources without a type or an id, wrong UTF-8, an empty file, a byte order mark, Windows line ends, blank
lines, a last line without a newline, one resource sent twice, and with ``--huge`` a line of 10 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from pathlib import Path
from typing import Any, NamedTuple

SEED = 20260101
PATIENTS = 24
HUGE_BYTES = 10_000_000
SNOMED, LOINC, RXNORM = "http://snomed.info/sct", "http://loinc.org", "http://www.nlm.nih.gov/research/umls/rxnorm"
CONDITIONS = [("38341003", "Hypertensive disorder"), ("44054006", "Diabetes mellitus type 2"), ("195967001", "Asthma")]
OBSERVATIONS = [("8302-2", "Body height"), ("29463-7", "Body weight"), ("8867-4", "Heart rate")]
DRUGS = [("314076", "lisinopril 10 MG Oral Tablet"), ("860975", "metformin 500 MG Oral Tablet")]


class Bad(NamedTuple):
    """A line that an importer must report; an empty file counts as its line 0."""

    file: str
    line: int
    kind: str


def write_sample(folder: Path, *, huge: bool = False) -> list[Bad]:
    """Write the files and return what is wrong in them, in order of file and line."""
    folder.mkdir(parents=True, exist_ok=True)
    bad: list[Bad] = []
    for name, content in _files(random.Random(SEED), bad, huge=huge).items():
        (folder / name).write_bytes(content)
    return sorted(bad)


def _files(rng: random.Random, bad: list[Bad], *, huge: bool) -> dict[str, bytes]:
    patients = [_patient(rng) for _ in range(PATIENTS)]
    encounters = [_encounter(rng, p) for p in patients for _ in range(6)]
    conditions = [_coded(rng, "Condition", p, SNOMED, CONDITIONS, "recordedDate") for p in patients for _ in range(4)]
    observations = [
        _coded(rng, "Observation", p, LOINC, OBSERVATIONS, "effectiveDateTime") for p in patients for _ in range(15)
    ]
    orders = [_coded(rng, "MedicationRequest", p, RXNORM, DRUGS, "authoredOn") for p in patients for _ in range(3)]

    lines = {
        "Condition.000.ndjson": _spoiled(rng, "Condition.000.ndjson", _dumped(conditions), bad),
        "Observation.000.ndjson": _with_wrong_utf8("Observation.000.ndjson", _dumped(observations), bad),
        "Patient.001.ndjson": _dumped([patients[3]]),
    }
    files = {name: b"".join(line + b"\n" for line in content) for name, content in lines.items()}
    files["Encounter.000.ndjson"] = b"\r\n".join(_dumped(encounters)) + b"\r\n"
    files["Immunization.000.ndjson"] = b""
    files["MedicationRequest.000.ndjson"] = b"\n".join([*_dumped(orders[:40]), b"", b"  ", *_dumped(orders[40:])])
    files["Patient.000.ndjson"] = b"\xef\xbb\xbf" + b"".join(line + b"\n" for line in _dumped(patients))
    bad.append(Bad("Immunization.000.ndjson", 0, "empty file"))
    if huge:
        files["DocumentReference.000.ndjson"] = _huge(rng, patients[0], bad)
    return files


def _spoiled(rng: random.Random, name: str, lines: list[bytes], bad: list[Bad]) -> list[bytes]:
    """The lines with bad ones strewn in."""
    kinds = {
        "broken JSON": lines[0][: len(lines[0]) // 2],
        "no resourceType": json.dumps({"id": _uuid(rng), "status": "final"}).encode(),
        "no id": json.dumps({"resourceType": "Condition"}).encode(),
        "odd resourceType": json.dumps({"resourceType": "../../Condition", "id": _uuid(rng)}).encode(),
        "not an object": b'["Condition"]',
    }
    places = sorted(rng.sample(range(len(lines)), len(kinds)))
    spoiled = list(lines)
    for place, (kind, line) in zip(places, kinds.items(), strict=True):
        spoiled.insert(place, line)
        bad.append(Bad(name, place + 1, kind))
    return spoiled


def _with_wrong_utf8(name: str, lines: list[bytes], bad: list[Bad]) -> list[bytes]:
    """One line in Latin-1, as an old interface engine would send it."""
    at = len(lines) // 2
    bad.append(Bad(name, at + 1, "wrong UTF-8"))
    latin = b'{"resourceType":"Observation","id":"latin-1","status":"final","code":{"text":"Gr\xf6\xdfe"}}'
    return [*lines[:at], latin, *lines[at:]]


def _huge(rng: random.Random, patient: dict[str, Any], bad: list[Bad]) -> bytes:
    """Three documents; the second holds a scan of 10 MB."""
    sizes = [1_000, HUGE_BYTES, 1_000]
    documents = [
        _resource(rng, "DocumentReference", status="current", subject=_reference(patient), date="2024-05-01",
                  content=[{"attachment": {"contentType": "application/pdf", "data": "A" * size}}])
        for size in sizes
    ]  # fmt: skip
    bad.append(Bad("DocumentReference.000.ndjson", 2, "huge line"))
    return b"".join(line + b"\n" for line in _dumped(documents))


def _patient(rng: random.Random) -> dict[str, Any]:
    name = {"family": rng.choice(["Müller", "Núñez", "Øster", "Ito"]), "given": [rng.choice(["Ada", "Bo", "Chloé"])]}
    return _resource(
        rng, "Patient", name=[name], gender=rng.choice(["female", "male"]), birthDate=_date(rng, 1930, 2020)
    )


def _encounter(rng: random.Random, patient: dict[str, Any]) -> dict[str, Any]:
    kind = {"coding": [{"system": SNOMED, "code": "185347001", "display": "Encounter for problem"}]}
    start = f"{_date(rng, 2015, 2025)}T09:30:00Z"
    return _resource(
        rng, "Encounter", status="finished", type=[kind], subject=_reference(patient), period={"start": start}
    )


def _coded(
    rng: random.Random, kind: str, patient: dict[str, Any], system: str, codes: list[tuple[str, str]], date: str
) -> dict[str, Any]:
    code, display = rng.choice(codes)
    concept = {"coding": [{"system": system, "code": code, "display": display}], "text": display}
    field = "medicationCodeableConcept" if kind == "MedicationRequest" else "code"
    status = {} if kind == "Condition" else {"status": "final" if kind == "Observation" else "active"}
    return _resource(rng, kind, **status, **{field: concept, date: _date(rng, 2015, 2025)}, subject=_reference(patient))


def _resource(rng: random.Random, kind: str, **fields: Any) -> dict[str, Any]:
    updated = f"{_date(rng, 2025, 2026)}T00:00:00Z"
    return {"resourceType": kind, "id": _uuid(rng), "meta": {"lastUpdated": updated}, **fields}


def _reference(patient: dict[str, Any]) -> dict[str, str]:
    return {"reference": f"Patient/{patient['id']}"}


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _date(rng: random.Random, first: int, end: int) -> str:
    return f"{rng.randrange(first, end)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"


def _dumped(resources: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(resource, separators=(",", ":"), ensure_ascii=False).encode() for resource in resources]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--huge", action="store_true", help="add a file with a line of 10 MB")
    arguments = parser.parse_args()
    for found in write_sample(arguments.folder, huge=arguments.huge):
        print(*found, sep="\t")
