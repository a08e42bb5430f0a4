"""ro-crate-metadata.json: a description of a report and its inputs, for programs.

RO-Crate 1.1: https://www.researchobject.org/ro-crate/specification/1.1/
"""

import re
from collections.abc import Iterable
from typing import Any

from shardmark import __version__
from shardmark.files import pretty_json
from shardmark.records.score import DatasetInfo, ModelInfo

from .facts import finished, hardware_text, started
from .render import write_text
from .site import Site

NAME = "ro-crate-metadata.json"
FORMATS = {".html": "text/html", ".csv": "text/csv", ".md": "text/markdown", ".json": "application/json"}
HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
Entity = dict[str, Any]


def write_crate(site: Site) -> None:
    """Write the crate; must be the last of all files, as it lists them."""
    files = [_file(path.name) for path in sorted(site.folder.iterdir()) if path.is_file()]
    folders = [
        {"@id": f"{path.name}/", "@type": "Dataset", "name": path.name}
        for path in sorted(site.folder.iterdir())
        if path.is_dir()
    ]
    models = [_model(model) for model in site.results.models]
    datasets = [_dataset(dataset) for dataset in site.results.datasets]
    software = list(_software(site))
    generated = site.facts.get("generated") or finished(site.results)
    root = _known(
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{site.run}: report of an evaluation of language models",
            "description": f"Scores of {len(models)} models on {len(datasets)} data sets, with samples.",
            "datePublished": generated,
            "license": "Texts of data sets and models are under their own licences.",
            "hasPart": _ids([*files, *folders]),
            "mentions": {"@id": "#evaluation"},
        }
    )
    about = {
        "@id": NAME,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    graph = [
        about,
        root,
        _evaluation(site, models, datasets, software),
        *models,
        *datasets,
        *software,
        *files,
        *folders,
    ]
    crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    write_text(site.folder / NAME, pretty_json(crate))


def _known(entity: Entity) -> Entity:
    return {key: value for key, value in entity.items() if value not in (None, "", [])}


def _ids(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _file(name: str) -> Entity:
    kind = FORMATS.get(name[name.rfind(".") :])
    return _known({"@id": name, "@type": "File", "name": name, "encodingFormat": kind})


def _evaluation(site: Site, models: list[Entity], datasets: list[Entity], software: list[Entity]) -> Entity:
    """The action of the run: from models and data sets to scores."""
    hardware = {hardware_text(pair.scores.provenance.hardware) for pair in site.results}
    return _known(
        {
            "@id": "#evaluation",
            "@type": "CreateAction",
            "name": site.run,
            "description": site.facts.get("command"),
            "startTime": started(site.results),
            "endTime": finished(site.results),
            "instrument": _ids(software),
            "object": _ids([*models, *datasets]),
            "result": _ids([_file("leaderboard.csv")]),
            "actionStatus": {"@id": f"http://schema.org/{'Failed' if site.results.gaps else 'Completed'}ActionStatus"},
            "additionalProperty": [
                *(
                    {"@type": "PropertyValue", "name": "hardware", "value": text}
                    for text in sorted(filter(None, hardware))
                ),
                *_configuration(site),
            ],
        }
    )


def _configuration(site: Site) -> list[Entity]:
    config = site.facts.get("config")
    return [{"@type": "PropertyValue", "name": "configuration", "value": config}] if config else []


def _model(model: ModelInfo) -> Entity:
    return _known(
        {
            "@id": f"#model-{model.name}",
            "@type": "SoftwareApplication",
            "name": model.name,
            "description": model.description,
            "identifier": model.digest,
            "url": _hub("", model.source, model.revision),
            "version": model.revision,
        }
    )


def _dataset(dataset: DatasetInfo) -> Entity:
    return _known(
        {
            "@id": f"#dataset-{dataset.name}",
            "@type": "Dataset",
            "name": dataset.name,
            "description": dataset.description,
            "identifier": dataset.digest,
            "url": _hub("datasets/", dataset.source, dataset.revision),
            "version": dataset.revision,
            "disambiguatingDescription": dataset.part,
        }
    )


def _hub(kind: str, source: str, revision: str | None) -> str | None:
    """The address of something on the Hub, if its revision shows that it comes from there."""
    return f"https://huggingface.co/{kind}{source}/tree/{revision}" if revision and HUB.fullmatch(source) else None


def _software(site: Site) -> Iterable[Entity]:
    versions: dict[str, set[str]] = {"Shardmark": {__version__}}
    for pair in site.results:
        source = pair.scores.provenance
        versions["Shardmark"].add(source.shardmark)
        versions.setdefault("Python", set()).add(source.python)
        for name, version in source.packages.items():
            versions.setdefault(name, set()).add(version)
    for name, found in sorted(versions.items()):
        for version in sorted(found):
            yield {"@id": f"#{name}-{version}", "@type": "SoftwareApplication", "name": name, "version": version}
