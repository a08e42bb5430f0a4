"""Scores and samples from hand-made requests and predictions; what does not fit the plan is refused by name."""

import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from answered import made, wrote
from projects import model_record, shard_record, write_record
from requirements_check import need
from shardmark.config import DatasetConfig
from shardmark.errors import UserError
from shardmark.files import digest, file_sha256, jsonl, read_json, read_jsonl, sealed, sha256, write_whole
from shardmark.metrics import METRICS
from shardmark.records.base import to_json
from shardmark.records.dataset import TaskDataset, TaskHeader
from shardmark.records.origin import FileOrigin, HubOrigin
from shardmark.records.prediction import Output, Prediction, Sampled, prediction_of
from shardmark.records.prediction import Scored as ScoredPrediction
from shardmark.records.shard import ShardLists
from shardmark.scoring import endpoint_usage
from shardmark.scoring.sample_scores import with_thoughts
from shardmark.scoring.score import score_dataset
from shardmark.scoring.thinking import Thinking
from shardmark.store.predictions import write_predictions
from unit.report.fake_results import make_metric, make_sample

FACTS = made(
    inferred=2,
    reused=1,
    seconds=1.5,
    load_seconds=0.5,
    predicted_seconds=2.0,
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:01:00+00:00",
    hardware={"cpu": "one", "cores": 2},
    packages={"torch": "2.13.0"},
    gpu_names=["H100"],
)
MODEL = model_record("tiny", "0" * 16, description="small", path="org/tiny", num_gpus=1)
GENERATE = {
    "description": "sums",
    "source": {"file": "sums.jsonl"},
    "kind": "generate",
    "prompt": "{{ q }}",
    "target": "a",
    "filters": ["last_number"],
    "metrics": ["exact_match"],
    "chance": 0.1,
}
CHOICE = {
    "source": {"hub": "org/colours"},
    "kind": "choice",
    "prompt": "{{ q }}",
    "choices": "c",
    "target": "a",
    "metrics": ["accuracy"],
}

NO_LIMITS: dict[str, Any] = defaultdict(dict, generate={"max_new_tokens": 8, "stop": []})


class Scored:
    """The files of one model on one data set, from samples that two shards hold; requests have names of our own."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self.root = root
        self.task = root / "task.jsonl"
        self.timings = root / "timings/demo.json"
        self.settings = DatasetConfig.model_validate(settings).model_dump()
        self.requests: dict[str, dict[str, Any]] = {"first": {}, "second": {}}
        self.predictions: dict[str, list[dict[str, Any]]] = {"first": [], "second": []}
        self.lines: list[dict[str, Any]] = []

    def ask(self, key: str, request: dict[str, Any], prediction: dict[str, Any], shard: str = "first") -> None:
        """A request and its answer."""
        self.requests[shard][key] = {"kind": self.settings["kind"], **NO_LIMITS[self.settings["kind"]], **request}
        self.predictions[shard].append({"id": key, "cut": 0, **prediction})

    def sample(self, name: str, key: str, target: Any, **more: Any) -> None:
        """A sample that a request's answer decides."""
        self.lines.append({"sample": name, "request": key, "target": target, "row": {"n": name}, **more})

    def id(self, key: str) -> str:
        """The id of a request; a name that nothing was asked by is its own."""
        asked = self.requests["first"] | self.requests["second"]
        return sha256(asked[key]) if key in asked else key

    def shard(self, shard: str) -> str:
        return digest([self.id(key) for key in self.requests[shard]])

    def file(self, shard: str) -> Path:
        return self.root / f"predictions/tiny@{MODEL.digest}/demo" / f"{self.shard(shard)}.jsonl"

    def request_file(self, shard: str) -> Path:
        return self.root / "requests/demo" / f"{self.shard(shard)}.jsonl"

    def answer(self, shard: str, predictions: list[dict[str, Any]], **facts: Any) -> None:
        """The prediction file of a shard."""
        answers = [prediction_of(answer | {"id": self.id(answer["id"])}) for answer in predictions]
        write_predictions(self.file(shard), answers, replace(FACTS, **facts))

    def divide(self, *shards: str) -> None:
        """Say that these are all shards."""
        levels = {"1": [shard_record(self.shard(shard)) for shard in shards]}
        write_record(self.root / f"tasks/demo@{'1' * 16}.shards.json", ShardLists(levels=levels))

    def write(self) -> "Scored":
        for shard in ("first", "second"):
            asked = [{"id": self.id(key), **request} for key, request in self.requests[shard].items()]
            write_whole(self.request_file(shard), jsonl(asked))
            self.answer(shard, self.predictions[shard])
        lines = jsonl(self._with_ids(line) for line in self.lines)
        file, hub = (
            FileOrigin(file="sums.jsonl", sha256="f00d"),
            HubOrigin(hub="org/colours", config=None, split="test", commit="beef"),
        )
        dataset = TaskDataset(
            name="demo", digest="1" * 16, origin=hub if self.settings["source"]["hub"] else file, rows=9
        )
        hashed = hashlib.sha256(lines.encode()).hexdigest()
        header = TaskHeader(dataset=dataset, settings=self.settings, samples_sha256=hashed)
        self.task.write_text(jsonl([sealed(to_json(header))]) + lines)
        self.divide("first", "second")
        write_record(self.root / "model.json", MODEL)
        return self

    def _with_ids(self, line: dict[str, Any]) -> dict[str, Any]:
        turns = {"turns": [self._with_ids(turn) for turn in line["turns"]]} if "turns" in line else {}
        return line | {"request": self.id(line["request"])} | turns

    def score(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The score file and the samples by name."""
        scores, samples = self.root / "scores/demo.json", self.root / "samples/demo.jsonl"
        score_dataset(self.task, 1, self.root / "model.json", self.root, scores, samples, self.timings)
        return read_json(scores), {sample["sample"]: sample for sample in read_jsonl(samples)}


def answered(text: str) -> dict[str, Any]:
    return {"text": text, "tokens": 3, "end": "stop"}


def sums(root: Path, **settings: Any) -> Scored:
    """Five samples: right, wrong, without an answer, and two that ask the same."""
    scored = Scored(root, GENERATE | settings)
    scored.ask("none", {"prompt": "2+2="}, answered("I do not know"))
    scored.ask("right", {"prompt": "1+1="}, answered("It is 2."))
    scored.ask("wrong", {"prompt": "1+2="}, answered("It is 4.") | {"cut": 7}, shard="second")
    scored.ask("shared", {"prompt": "0+0="}, answered("0"), shard="second")
    scored.sample("a", "none", ["4"])
    scored.sample("b", "right", ["2"])
    scored.sample("c", "wrong", ["3"])
    scored.sample("d", "shared", ["0"])
    scored.sample("e", "shared", ["nothing", "zero"])
    return scored.write()


def test_the_score_is_the_mean_with_its_error_bar_and_counts(tmp_path: Path) -> None:
    score, _ = sums(tmp_path).score()
    metric = score["metrics"]["exact_match"]
    assert score["primary"] == "exact_match"
    assert (metric["value"], metric["n"]) == (0.4, 5)
    assert metric["stderr"] == pytest.approx(0.2449, abs=1e-4)
    assert metric["ci95"] == pytest.approx([0.1176, 0.7693], abs=1e-4)
    assert score["counts"] == {"samples": 5, "requests": 4, "truncated": 1, "unanswered": 1, "near_misses": 0}


def test_each_sample_says_what_was_asked_answered_and_right(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    _, samples = scored.score()
    assert samples["b"] == {
        "sample": "b",
        "request": scored.id("right"),
        "prompt": "1+1=",
        "output": "It is 2.",
        "answer": "2",
        "steps": {"": {}},
        "target": "2",
        "end": "stop",
        "scores": {"exact_match": 1.0},
        "truncated": 0,
        "row": {"n": "b"},
    }
    assert [sample["scores"]["exact_match"] for sample in samples.values()] == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert samples["c"]["truncated"] == 7


def test_no_answer_is_wrong_even_in_the_first_sample(tmp_path: Path) -> None:
    _, samples = sums(tmp_path).score()
    first = next(iter(samples.values()))
    assert first["answer"] is None
    assert first["scores"] == {"exact_match": 0.0}


def test_a_model_that_never_answers_scores_0(tmp_path: Path) -> None:
    score, _ = sums(tmp_path, filters=[{"name": "regex", "pattern": "never"}]).score()
    assert score["metrics"]["exact_match"]["value"] == 0.0
    assert score["counts"]["unanswered"] == 5


@pytest.mark.parametrize(
    ("text", "target", "settings", "near"),
    [
        (" 2\n", ["2"], {}, 1),
        ("two", ["zwei", "Two"], {}, 1),
        ("2 000", ["2000"], {}, 1),
        ("2", ["2"], {}, 0),
        (" 3\n", ["2"], {}, 0),
        (" ", [""], {}, 0),
        (" 2\n", ["2"], {"filters": ["strip"]}, 0),
        ("two", ["Two"], {"metrics": [{"name": "exact_match", "ignore_case": True}]}, 0),
        ("two", ["Two"], {"metrics": ["squad", "exact_match"]}, 1),
        (" 2", ["2"], {"chains": {"raw": [], "bare": ["strip"]}}, 1),
    ],
)
def test_answers_that_only_white_space_or_case_makes_wrong_are_counted(
    tmp_path: Path, text: str, target: list[str], settings: dict[str, Any], near: int
) -> None:
    scored = Scored(tmp_path, GENERATE | {"filters": []} | settings)
    scored.ask("one", {"prompt": "1+1="}, answered(text))
    scored.sample("a", "one", target)
    score, _ = scored.write().score()
    assert score["counts"]["near_misses"] == near


def test_samples_that_share_a_request_are_each_scored_against_their_own_target(tmp_path: Path) -> None:
    _, samples = sums(tmp_path).score()
    assert samples["d"]["output"] == samples["e"]["output"] == "0"
    assert (samples["d"]["target"], samples["e"]["target"]) == ("0", ["nothing", "zero"])
    assert samples["d"]["scores"] != samples["e"]["scores"]


def test_samples_stand_in_the_order_of_the_data_set(tmp_path: Path) -> None:
    assert list(sums(tmp_path).score()[1]) == ["a", "b", "c", "d", "e"]


def test_a_metrics_options_reach_it(tmp_path: Path) -> None:
    near = {"metrics": [{"name": "exact_match", "tolerance": 1.0}]}
    assert sums(tmp_path, **near).score()[0]["metrics"]["exact_match"]["value"] == pytest.approx(0.6)


def test_half_an_emoji_in_a_target_is_no_accident(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.lines[0]["target"] = ["\ud83d"]
    scored.lines[1]["target"] = ["\ud83d", "2"]
    assert scored.write().score()[0]["metrics"]["exact_match"]["value"] == 0.4


def test_timings_are_the_sums_over_the_shards(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.score()
    timings = read_json(scored.timings)
    assert timings == sealed({key: value for key, value in timings.items() if key != "sha256"})
    del timings["sha256"]
    assert timings.pop("samples_sha256") == file_sha256(tmp_path / "samples/demo.jsonl")
    assert timings == {
        "shards": [scored.shard("first"), scored.shard("second")],
        "seconds": 3.0,
        "load_seconds": 1.0,
        "predicted_seconds": 4.0,
        "requests": 4,
        "reused": 2,
        "started": FACTS.started,
        "finished": FACTS.finished,
        "batch_size": "auto",
        "parameters": 1_000_000,
    }


def test_the_same_predictions_in_other_shards_with_other_times_give_the_same_bytes(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.score()
    files = [tmp_path / "scores/demo.json", tmp_path / "samples/demo.jsonl"]
    before = [path.read_bytes() for path in files]
    scored.requests["first"] |= scored.requests["second"]
    scored.predictions["first"] += scored.predictions["second"]
    scored.write()
    later = {"seconds": 77.0, "load_seconds": 0.0, "started": "2026-02-02T00:00:00+00:00", "batch_size": 1}
    scored.answer("first", scored.predictions["first"], **later)
    scored.divide("first")
    scored.score()
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("harm", ["cut", "changed", "doubled", "empty", "no_header", "other_settings"])
def test_a_damaged_task_file_is_refused_by_name(tmp_path: Path, harm: str) -> None:
    scored = sums(tmp_path)
    text = scored.task.read_text()
    _, *lines = text.splitlines(keepends=True)
    harmed = {"cut": text[:-5], "changed": text.replace("zero", "hero"), "doubled": text + lines[-1]}
    harmed["other_settings"] = text.replace('"ignore_case": false', '"ignore_case": true ')
    assert text not in harmed.values()
    scored.task.write_text((harmed | {"empty": "", "no_header": "".join(lines)})[harm])
    with pytest.raises(UserError, match="it is damaged") as caught:
        scored.score()
    assert caught.value.problems[0].where == str(scored.task)
    assert not (tmp_path / "scores").exists()


def test_provenance_tells_how_to_repeat_the_score(tmp_path: Path) -> None:
    score, _ = sums(tmp_path).score()
    provenance = score["provenance"]
    assert "inference" not in provenance
    assert "shards" not in provenance
    assert provenance["hardware"] == {"cpu": "one", "cores": 2, "gpus": ["H100"]}
    assert {"torch", "evaluate", "datasets", "scipy", "snakemake"} <= provenance["packages"].keys()
    assert provenance["config"]["dataset"]["filters"] == [{"name": "last_number", "thousands": ","}]
    assert provenance["rows"] == {"file": "sums.jsonl", "sha256": "f00d"}
    assert score["model"]["revision"] == "c0ffee"
    assert score["model"]["source"] == "org/tiny"
    assert score["dataset"] == {
        "name": "demo",
        "digest": "1" * 16,
        "description": "sums",
        "kind": "generate",
        "source": "sums.jsonl",
        "revision": None,
        "chance": 0.1,
    }


# Choices


def colours(root: Path, **settings: Any) -> Scored:
    """Two samples: the first is right by its sum, the second only by its mean over characters."""
    scored = Scored(root, CHOICE | settings)
    sky, sea = ({"pairs": [[f"The {what} is", " blue"], [f"The {what} is", " light blue"]]} for what in ("sky", "sea"))
    scored.ask("one", sky, {"logprobs": [-1.0, -5.0], "tokens": [1, 2], "greedy": [True, False]})
    scored.ask("two", sea, {"logprobs": [-4.0, -5.0], "tokens": [1, 2], "greedy": [False, False]}, shard="second")
    scored.sample("a", "one", 0, choices=["blue", "light blue"])
    scored.sample("b", "two", 1, choices=["blue", "light blue"])
    return scored.write()


def test_ties_and_choices_tokenized_alone_are_counted_where_they_happen(tmp_path: Path) -> None:
    scored = colours(tmp_path)
    score, samples = scored.score()
    assert not {"tied", "alone"} & ({*score["counts"]} | {*samples["a"]} | {*samples["b"]})
    scored.predictions["second"][0] |= {"logprobs": [-5.0, -5.0], "alone": 1}
    score, samples = scored.write().score()
    assert {name: score["counts"][name] for name in ("tied", "alone")} == {"tied": 1, "alone": 1}
    assert (samples["b"]["tied"], samples["b"]["alone"], "tied" in samples["a"]) == (True, 1, False)


def test_a_tie_is_one_of_what_the_first_metric_compares(tmp_path: Path) -> None:
    """Equal sums are none by characters, where the longer choice is better."""
    by_length = {"name": "accuracy", "scoring": "char"}
    scored = colours(tmp_path, metrics=[by_length])
    scored.predictions["second"][0] |= {"logprobs": [-5.0, -5.0]}
    assert "tied" not in scored.write().score()[0]["counts"]
    scored.predictions["second"][0] |= {"logprobs": [-4.0, -10.0]}
    assert scored.write().score()[0]["counts"]["tied"] == 1  # of 4 characters, and of 10


@pytest.mark.parametrize(("scoring", "value"), [("sum", 0.5), ("char", 1.0), ("token", 1.0)])
def test_choices_are_ranked_as_the_data_set_says(tmp_path: Path, scoring: str, value: float) -> None:
    score, samples = colours(tmp_path, scoring=scoring).score()
    assert score["metrics"]["accuracy"]["value"] == value
    assert samples["a"]["answer"] == samples["a"]["target"] == 0


def test_a_choices_sample_shows_what_the_model_preferred(tmp_path: Path) -> None:
    scored = colours(tmp_path)
    _, samples = scored.score()
    assert samples["b"] == {
        "sample": "b",
        "request": scored.id("two"),
        "prompt": "The sea is",
        "choices": ["blue", "light blue"],
        "output": "blue",
        "logprobs": [-4.0, -5.0],
        "tokens": [1, 2],
        "answer": 0,
        "target": 1,
        "scores": {"accuracy": 0.0},
        "truncated": 0,
        "row": {"n": "b"},
    }


def test_a_prompt_that_is_scored_as_a_whole_is_shown(tmp_path: Path) -> None:
    scored = colours(tmp_path)
    scored.requests["first"]["one"]["pairs"] = [["", "The sky is blue"], ["", "The sky is light blue"]]
    assert scored.write().score()[1]["a"]["prompt"] == "The sky is blue"


def test_exact_match_of_choices_is_their_accuracy(tmp_path: Path) -> None:
    score, _ = colours(tmp_path, metrics=["exact_match", "accuracy"]).score()
    assert score["metrics"]["exact_match"] == score["metrics"]["accuracy"]
    assert score["primary"] == "exact_match"


# What does not fit the plan is refused, by the name of its file


def assert_refused(scored: Scored, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        scored.score()
    assert str(scored.file("second")) in str(caught.value)
    assert str(scored.file("first")) not in str(caught.value)
    assert "delete" in str(caught.value)
    assert not (scored.root / "scores").exists()
    assert not (scored.root / "samples").exists()


def test_a_missing_prediction_is_refused(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.answer("second", scored.predictions["second"][1:])
    assert_refused(scored, f"1 predictions are missing, such as that of request {scored.id('wrong')[:16]}")


def test_a_foreign_prediction_is_refused(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    foreign = {"id": "foreign", "cut": 0, **answered("7")}
    scored.answer("second", [*scored.predictions["second"], foreign])
    assert_refused(scored, "1 predictions are foreign, such as that of request foreign")


def test_a_doubled_prediction_is_refused(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.answer("second", scored.predictions["second"] * 2)
    assert_refused(scored, "a request is answered twice")


def test_answers_of_another_kind_or_number_are_refused(tmp_path: Path) -> None:
    two = {"samples": [answered("7") | {"cut": 0}] * 2}
    for n, other in enumerate(({"logprobs": [-1.0], "tokens": [1], "greedy": [True], "cut": 0}, two)):
        scored = sums(tmp_path / str(n))
        first, second = scored.predictions["second"]
        scored.answer("second", [{"id": first["id"], **other}, second])
        assert_refused(scored, "1 predictions are of another kind, such as that of request")
    scored = colours(tmp_path / "choice")
    scored.predictions["second"][0] |= {"logprobs": [-4.0], "tokens": [1], "greedy": [False]}
    scored.answer("second", scored.predictions["second"])
    assert_refused(scored, "1 predictions are of another kind, such as that of request")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.file("second").unlink()
    assert_refused(scored, "No such file")


def changed_line(lines: list[str]) -> list[str]:
    return [lines[0].replace("0", "1", 1), *lines[1:]]


def lost_line(lines: list[str]) -> list[str]:
    return lines[1:]


def lost_trailer(lines: list[str]) -> list[str]:
    return lines[:-1]


def cut_trailer(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1][:-9]]


def wrong_count(lines: list[str]) -> list[str]:
    return [*lines[:-1], lines[-1].replace('"count": 2', '"count": 3')]


def no_hash(lines: list[str]) -> list[str]:
    trailer = json.loads(lines[-1])
    del trailer["complete"]["sha256"]
    return [*lines[:-1], json.dumps(trailer) + "\n"]


def empty(lines: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize("harm", [changed_line, lost_line, lost_trailer, cut_trailer, wrong_count, no_hash, empty])
def test_a_damaged_file_is_refused(tmp_path: Path, harm: Any) -> None:
    scored = sums(tmp_path)
    lines = scored.file("second").read_text().splitlines(keepends=True)
    scored.file("second").write_text("".join(harm(lines)))
    assert_refused(scored, "not a complete prediction file")


def test_all_files_that_do_not_fit_are_told_at_once(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    scored.file("first").unlink()
    scored.answer("second", [])
    with pytest.raises(UserError) as caught:
        scored.score()
    assert [problem.where for problem in caught.value.problems] == [str(scored.file(s)) for s in ("first", "second")]


# Several chains, answers, metrics and clusters


def test_each_chain_of_filters_is_judged_by_the_metrics_that_name_it_or_none(tmp_path: Path) -> None:
    chains = {"strict": [{"name": "regex", "pattern": r"It is (\d)"}], "flexible": ["last_number"]}
    metrics = ["exact_match", {"name": "squad", "chain": "flexible", "label": "words"}]
    score, samples = sums(tmp_path, filters=[], chains=chains, metrics=metrics).score()
    assert score["primary"] == "exact_match,strict"
    values = {label: metric["value"] for label, metric in score["metrics"].items()}
    assert values == {"exact_match,strict": 0.2, "exact_match,flexible": 0.4, "words,flexible": 0.4}
    assert samples["d"]["answers"] == {"strict": [None], "flexible": ["0"]}
    assert (samples["d"]["answer"], samples["d"]["scores"]["exact_match,flexible"]) == (None, 1.0)
    assert score["counts"]["unanswered"] == 3


def several(root: Path, *texts: str, **settings: Any) -> Scored:
    """One sample with several answers."""
    drawn = {"generation": {"temperature": 1, "samples": len(texts)}}
    scored = Scored(root, GENERATE | drawn | settings)
    samples = [answered(text) | {"cut": 2} for text in texts]
    asked = {"kind": "generate", "prompt": "1+1=", "max_new_tokens": 8, "stop": [], "samples": len(texts)}
    scored.requests["first"]["many"] = asked
    scored.predictions["first"].append({"id": "many", "samples": samples})
    scored.sample("a", "many", ["2"])
    return scored.write()


def test_several_answers_are_averaged_unless_filters_choose(tmp_path: Path) -> None:
    chains = {"each": ["last_number"], "vote": ["last_number", "majority_vote"]}
    score, samples = several(tmp_path, "so 3", "so 2", "2", "I", filters=[], chains=chains).score()
    values = {label: metric["value"] for label, metric in score["metrics"].items()}
    assert values == {"exact_match avg@4,each": 0.5, "exact_match,vote": 1.0}
    assert samples["a"]["outputs"] == ["so 3", "so 2", "2", "I"]
    assert samples["a"]["answers"] == {"each": ["3", "2", "2", None], "vote": ["2"]}
    assert samples["a"]["answer_scores"] == {"exact_match avg@4,each": [0.0, 1.0, 1.0, 0.0]}
    assert samples["a"]["truncated"] == 2
    assert score["metrics"]["exact_match avg@4,each"]["n"] == 1


def test_several_statistics_of_a_metric_stand_side_by_side(tmp_path: Path) -> None:
    kinds = ["avg", "pass", "maj", {"name": "pass", "k": 2}, {"name": "all", "k": 2}, "mg_pass"]
    kinds.append({"name": "g_pass", "k": 3, "threshold": 0.5})
    metrics = [{"name": "exact_match", "repeats": kind} for kind in kinds]
    score, samples = several(tmp_path, "so 3", "so 2", "2", "I", metrics=metrics).score()
    assert samples["a"]["scores"] == {
        "exact_match avg@4": 0.5,
        "exact_match pass@4": 1.0,
        "exact_match maj@4": 1.0,
        "exact_match pass@2": pytest.approx(5 / 6),
        "exact_match pass^2": pytest.approx(1 / 6),
        "exact_match mG-Pass@4": 0.0,
        "exact_match G-Pass@3_0.5": pytest.approx(1 / 2),
    }
    assert score["primary"] == "exact_match avg@4"
    assert samples["a"]["answer_scores"]["exact_match pass^2"] == [0.0, 1.0, 1.0, 0.0]
    assert "exact_match maj@4" not in samples["a"]["answer_scores"]
    assert samples["a"]["answer"] == "3"


def retold(outputs: list[str], told: dict[str, list[Any]]) -> list[list[str | None]]:
    """The texts of a sample's recorded steps in full."""
    found: list[list[str | None]] = []
    before: list[str | None] = [*outputs]
    for texts in told.values():
        sources = [before[min(place, len(before) - 1)] or "" for place in range(len(texts))]
        pairs = zip(texts, sources, strict=True)
        before = [source[slice(*text)] if isinstance(text, list) else text for text, source in pairs]
        found.append(before)
    return found


def test_a_sample_tells_what_each_filter_did_and_only_that(tmp_path: Path) -> None:
    text = " I have added both of them: IT IS 2.\n"
    all_of_it, end = ({"name": "regex", "pattern": pattern} for pattern in ("(?s)(.*)", "it is (.*)"))
    scored = sums(tmp_path, filters=["strip", all_of_it, "lowercase", end, "last_number"])
    scored.predictions["first"][1] |= {"text": text}
    samples = scored.write().score()[1]
    assert samples["b"]["steps"] == {"": {"1": [[1, 36]], "3": [text.strip().lower()], "4": ["2."]}}
    assert retold([text], samples["b"]["steps"][""]) == [[text.strip()], [text.strip().lower()], ["2."]]
    assert samples["a"]["steps"] == {"": {"3": ["i do not know"], "4": [None]}}
    assert samples["d"]["steps"] == {"": {"4": [None]}}
    assert samples["b"]["answer"] == "2"
    assert "steps" not in sums(tmp_path, filters=[]).score()[1]["b"]


def test_steps_of_several_answers_stand_side_by_side_until_a_vote(tmp_path: Path) -> None:
    text = "after much thought, it is 2 and nothing else"
    chains = {"whole": ["strip"], "vote": ["strip", "majority_vote", "last_number"]}
    _, samples = several(tmp_path, f" {text}", text, "3", filters=[], chains=chains).score()
    told = samples["a"]["steps"]
    assert told == {"whole": {}, "vote": {"1": [[1, 45], [0, 44], "3"], "2": [[0, 44]]}}
    assert retold(samples["a"]["outputs"], told["vote"]) == [[text, text, "3"], [text]]


def test_the_answer_that_was_voted_for_is_the_samples(tmp_path: Path) -> None:
    metrics = [{"name": "exact_match", "repeats": "maj"}]
    _, samples = several(tmp_path, "so 3", "so 2", "2", "I", metrics=metrics).score()
    assert samples["a"]["answer"] == "2"
    assert "answer_scores" not in samples["a"]


def test_a_metric_of_all_samples_is_averaged_over_the_first_answers_the_second_and_so_on(tmp_path: Path) -> None:
    import sacrebleu

    texts, target = ["the cat sat on the mat", "a dog sat on the mat today"], "the cat sat on the mat"
    metrics = [{"name": "bleu", "resamples": 100}, {"name": "f1", "average": "macro", "resamples": 100}]
    scored = several(tmp_path, *texts, filters=[], metrics=metrics)
    scored.lines[0]["target"] = [target]
    score, samples = scored.write().score()
    bleu = [sacrebleu.corpus_bleu([text], [[target]]).score / 100 for text in texts]
    assert score["metrics"]["bleu avg@2"]["value"] == pytest.approx(sum(bleu) / 2)
    assert samples["a"]["answer_scores"]["bleu avg@2"] == pytest.approx(bleu)
    assert samples["a"]["scores"] == {"bleu avg@2": pytest.approx(sum(bleu) / 2), "f1 avg@2": None}
    assert score["metrics"]["f1 avg@2"]["value"] == 0.5


ROTATED = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def circular(root: Path, *answers: str) -> Scored:
    """A question for each text of letters, its options rotated; A, C, B are right."""
    settings = {"prompt": "{{ o | join }}", "target": "'A'", "circular": "o", "chance": None}
    scored = Scored(root, GENERATE | settings | {"filters": ["strip"]})
    for number, letters in enumerate(answers):
        keys = [f"{number}/{turn}" for turn in range(3)]
        for turn, key in enumerate(keys):
            cut = {"cut": 5 * (turn == 2)}
            scored.ask(key, {"prompt": "".join(ROTATED[turn]) + str(number)}, answered(letters[turn]) | cut)
        turns = [{"request": key, "target": [right]} for key, right in zip(keys[1:], "CB", strict=True)]
        scored.sample(str(number), keys[0], ["A"], turns=turns)
        scored.lines[-1]["row"] = {"o": ROTATED[0]}
    return scored.write()


def test_a_circular_sample_is_right_if_all_rotations_are(tmp_path: Path) -> None:
    score, samples = circular(tmp_path, "ACB", "ACC", "AAA", " C ").score()
    found = {label: (metric["value"], metric["n"]) for label, metric in score["metrics"].items()}
    assert found == {
        "exact_match circular": (1 / 4, 4),
        "exact_match avg over rotations": (pytest.approx((1 + 2 / 3 + 1 / 3 + 1 / 3) / 4), 4),
    }
    assert score["primary"] == "exact_match circular"
    assert score["metrics"]["exact_match circular"]["interval"] == "wilson"
    assert samples["1"]["answer_scores"]["exact_match circular"] == [1.0, 1.0, 0.0]
    assert "steps" not in samples["2"]
    assert [each["steps"] for each in samples["2"]["rotations"]] == [{"": {}}] * 3
    assert [(each["answer"], each["target"]) for each in samples["2"]["rotations"]] == [
        ("A", "A"),
        ("A", "C"),
        ("A", "B"),
    ]
    assert samples["0"]["truncated"] == 5
    assert score["counts"] | {"samples": 4, "requests": 12, "truncated": 4, "unanswered": 0} == score["counts"]


def test_filters_see_the_row_as_it_was_asked(tmp_path: Path) -> None:
    scored = circular(tmp_path, "ACB")
    text = "{{ 'ABC'[o.index(answer)] if answer in o else answer }}"  # from an option's text to its letter
    scored.settings |= DatasetConfig.model_validate(
        GENERATE | {"circular": "o", "chance": None, "filters": [{"name": "template", "template": text}]}
    ).model_dump(include={"filters"})
    scored.predictions["first"] = [answer | {"text": "a"} for answer in scored.predictions["first"]]
    score, _ = scored.write().score()
    assert score["metrics"]["exact_match circular"]["value"] == 1.0


def test_circular_choices_are_each_judged_by_their_own_target(tmp_path: Path) -> None:
    settings = {"circular": "o", "prompt": "{{ o | join }}", "choices": ["A", "B"], "target": "0"}
    scored = Scored(tmp_path, CHOICE | settings)
    for key, logprobs in (("one", [-1.0, -2.0]), ("two", [-2.0, -1.0]), ("always", [-1.0, -2.0])):
        pairs = [[key, " A"], [key, " B"]]
        told = {"logprobs": logprobs, "tokens": [1, 1], "greedy": [False, False]}
        scored.ask(key, {"pairs": pairs}, told)
    for name, turn in (("right", "two"), ("first", "always")):
        turns = [{"request": turn, "target": 1, "choices": ["A", "B"]}]
        scored.sample(name, "one", 0, choices=["A", "B"], turns=turns)
        scored.lines[-1]["row"] = {"o": ["x", "y"]}
    _, samples = scored.write().score()
    assert samples["right"]["scores"] == {"accuracy circular": 1.0, "accuracy avg over rotations": 1.0}
    assert samples["first"]["scores"] == {"accuracy circular": 0.0, "accuracy avg over rotations": 0.5}
    assert [each["logprobs"] for each in samples["right"]["rotations"]] == [[-1.0, -2.0], [-2.0, -1.0]]


GENERATED = sorted(name for name, kind in METRICS.items() if "generate" in kind.kinds and not kind.needs.sandbox)
OWN = {"file": "own.py", "code": "def score(prediction, references, row):\n    return prediction in references"}
ASKED = json.dumps({"ids": ["punctuation:no_comma"], "kwargs": [{}], "prompt": "no commas"})


@pytest.mark.parametrize("name", GENERATED)
def test_equal_answers_are_worth_as_much_as_one(tmp_path: Path, name: str) -> None:
    def measured(times: int) -> Any:
        scored = sums(tmp_path / str(times), filters=[], metrics=[{"name": name} | (OWN if name == "own" else {})])
        scored.settings["generation"] |= {"temperature": 1.0, "samples": times}
        for shard, answers in scored.predictions.items():
            for request in scored.requests[shard].values():
                request["samples"] = times
            for answer in answers if times > 1 else ():
                text = {key: answer.pop(key) for key in ("text", "tokens", "end", "cut")}
                answer["samples"] = [text] * times
        for line in scored.lines if name in ("ifeval", "ifbench") else ():
            line["target"] = [ASKED]
        scored.write()
        (metric,) = scored.score()[0]["metrics"].values()
        return [metric["value"], metric["stderr"], *metric["ci95"]], metric["n"]

    (one, n), (three, questions) = measured(1), measured(3)
    assert three == pytest.approx(one)
    assert n == questions == 5


def test_a_cut_thought_is_no_answer_where_the_other_outputs_end_one_that_the_prompt_has_opened() -> None:
    def outputs(*texts: str) -> dict[str, Prediction]:
        return {
            str(n): wrote(str(n), text, end="length" if text.startswith("cut") else "eos")
            for n, text in enumerate(texts)
        }

    def opened(predictions: dict[str, Prediction]) -> list[list[str]]:
        marked = with_thoughts(predictions).values()
        return [[output.opened for output in each.outputs] for each in marked if not isinstance(each, ScoredPrediction)]

    ended = outputs("so</think>3", "cut 4", "x</think>5", "7")
    assert opened(ended) == [[""], ["<think>"], [""], [""]]
    for others in (
        outputs("cut 4", "7"),
        outputs("cut 4", "7", "<think>a</think>8"),
        outputs("a</think>b", "cut", "7", "8"),
    ):
        assert with_thoughts(others) == others
    noted = ended | {"n": wrote("n", "so", opened="<think>")}
    assert with_thoughts(noted) == noted
    samples = [
        Output(text="so</think>3", tokens=1, end="eos", cut=0),
        Output(text="cut 4", tokens=1, end="length", cut=0),
    ]
    assert opened({"a": Sampled(id="a", samples=samples)}) == [["", "<think>"]]


def test_only_a_chain_that_strips_thoughts_sees_their_marks(tmp_path: Path) -> None:
    chains = {"whole": ["first_number"], "after": ["strip_thinking", "first_number"]}
    marked = {"marks": [(3, "<think>"), (4, "</think>")], "thought": 3}
    scored = sums(tmp_path, filters=[], chains=chains)
    scored.predictions["first"][0] |= {"text": "so 3. 2", **marked}
    scored.predictions["second"][0] |= {"text": "so 4", "marks": [(2, "<|START_THINKING|>")], "end": "length"}
    scored.write()
    samples = scored.score()[1].values()
    found = [(sample["output"], sample["answers"]) for sample in samples if "<" in sample["output"]]
    assert ("so <think>3</think>. 2", {"whole": ["3"], "after": ["2"]}) in found
    assert ("so<|START_THINKING|> 4", {"whole": ["4"], "after": [None]}) in found


CHAINS = {"whole": ["last_number"], "after": ["strip_thinking", "last_number"]}


def test_thoughts_are_counted_and_what_is_cut_is_said(tmp_path: Path) -> None:
    def counts(*answers: dict[str, Any], **settings: Any) -> dict[str, Any]:
        scored = sums(tmp_path, **settings)
        for answer, more in zip(scored.predictions["first"], answers, strict=False):
            answer |= more
        score, samples = scored.write().score()
        found: dict[str, Any] = score["counts"]
        return found | {"samples": [sample for sample in samples.values() if "thought_cut" in str(sample)]}

    assert "reasoning" not in counts()
    whole = {"text": "<think>3?</think>2", "tokens": 8, "thought": 7}
    cut = {"text": "3?", "opened": "<think>", "tokens": 4, "thought": 4, "end": "length"}
    found = counts(whole, cut)
    asked = found["requests"]
    tokens = {"thought_tokens": 11, "answer_tokens": 1 + 3 * (asked - 2)}  # the others are of three tokens each
    assert found["reasoning"] == {"answers": asked, "reasoned": 2, "cut": 1, "seen": True, **tokens}
    seen = counts(whole, filters=["strip_thinking", "last_number"])["reasoning"].get("seen")
    assert (seen, counts(whole, filters=[], chains=CHAINS)["reasoning"]["seen"]) == (None, True)
    (sample,) = found["samples"]
    assert (sample["thought_tokens"], sample["answer_tokens"], sample["thought_cut"]) == (4, 0, True)
    old = counts({"text": "<think>3?</think>2", "tokens": 8})["reasoning"]
    assert (old["reasoned"], old["thought_tokens"], old["answer_tokens"]) == (1, None, None)
    apart = {"text": "", "reasoning": "3?"}  # all of which is a thought, according to the endpoint
    assert counts(apart, apart | {"end": "refusal"})["reasoning"]["cut"] == 1
    assert counts({"end": "time"})["late"] == 1


def test_cut_prompts_empty_answers_and_several_models_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_usage, "SOME", -1000)  # no prompt here is too long otherwise
    scored = sums(tmp_path)
    for answer, served in zip(scored.predictions["first"], ["m-1 fp", "m-2 fp"], strict=False):
        answer |= {"read": 5, "served": served}
    scored.predictions["first"][1]["text"] = ""
    counts = scored.write().score()[0]["counts"]
    assert (counts["cut_there"], counts["models"], counts["empty"]) == (2, 2, 1)


def test_choices_within_a_thought_are_said(tmp_path: Path) -> None:
    def score(**opened: bool) -> dict[str, Any]:
        scored = Scored(tmp_path, CHOICE)
        facts = {"logprobs": [-1.0, -2.0], "tokens": [1, 1], "greedy": [True, False]}
        scored.ask("a", {"pairs": [["q", "x"], ["q", "y"]]}, facts | opened)
        scored.sample("a", "a", 0, choices=["x", "y"])
        found: dict[str, Any] = scored.write().score()[0]["counts"]
        return found

    assert "within_thoughts" not in score()
    assert score(opened=True)["within_thoughts"] == 1


def test_thoughts_are_taken_off_before_filters_where_the_models_file_tells_of_them(tmp_path: Path) -> None:
    texts = {"a": "[r]3[/r] 2", "b": "[r]3", "c": "<think>3</think>2"}

    def scores(**said: Any) -> list[dict[str, Any]]:
        scored = Scored(tmp_path, GENERATE | {"filters": ["first_number"]})
        for key, text in texts.items():
            scored.ask(key, {"prompt": key}, answered(text))
            scored.sample(key, key, ["2"])
        scored.write()
        write_record(tmp_path / "model.json", model_record("tiny", "0" * 16, path="org/tiny", num_gpus=1, **said))
        return [*scored.score()[1].values()]

    def numbers(**said: Any) -> list[str | None]:
        return [sample["answer"] for sample in scores(**said)]

    told = [sample["steps"] for sample in scores(reasoning_tags=["[r]", "[/r]"])]
    assert told == [{"": {"0": ["2"]}}, {"": {"0": [None]}}, {"": {}}]
    assert numbers() == ["3", "3", "3"]
    assert numbers(reasoning_tags=["[r]", "[/r]"]) == ["2", None, "3"]
    assert numbers(reasoning="on") == ["3", "3", "2"]


@pytest.mark.parametrize("output", ["<think>a</think>\n\n4 \n", "a</think> 4", "<think>a</think>b</think>c", " 4\n"])
def test_thoughts_of_lm_evals_tasks_go_as_with_its_think_end_token(output: str) -> None:
    (found,) = Thinking(apart=True).answers({"a": wrote("a", output)}).values()
    ends = "</think>" in output
    assert getattr(found, "text", None) == (output.split("</think>")[-1].lstrip() if ends else output)


def test_lm_evals_tasks_see_what_follows_the_thoughts() -> None:
    outputs = {"a": wrote("a", "<think>3</think>\n2 \n"), "b": wrote("b", "3", opened="<think>"), "c": wrote("c", " 2")}
    assert Thinking().answers(outputs) == outputs
    found = Thinking(apart=True).answers(outputs)
    assert [each.text for each in found.values() if not isinstance(each, ScoredPrediction | Sampled)] == [
        "2 \n",
        "",
        " 2",
    ]
    many = Sampled(id="a", samples=[Output(text="3</think>2", tokens=1, end="eos", cut=0)], opened="<think>")
    (sampled,) = Thinking(apart=True).answers({"a": many}).values()
    assert [output.text for output in getattr(sampled, "samples", ())] == ["2"]


def test_all_answers_reach_pass_at_k(tmp_path: Path) -> None:
    need("bwrap")
    metrics = [{"name": "pass_at_k", "k": k, "label": f"pass@{k}"} for k in (1, 2)]
    programs = ["def f(): return 2", "def f(): return 3", "```\ndef f(): return 2\n```", "no"]
    scored = several(tmp_path, *programs, filters=["fenced_code"], metrics=metrics)
    scored.lines[0]["target"] = ["assert f() == 2"]
    score, samples = scored.write().score()
    assert samples["a"]["scores"] == {"pass@1": 0.5, "pass@2": pytest.approx(1 - 1 / 6)}
    assert score["primary"] == "pass@1"


def test_any_statistic_takes_programs(tmp_path: Path) -> None:
    need("bwrap")
    programs = ["def f(): return 2", "def f(): return 3", "def f(): return 2", "no"]
    metrics = [{"name": "pass_at_k", "repeats": {"name": "all", "k": 2}}]
    scored = several(tmp_path, *programs, filters=[], metrics=metrics)
    scored.lines[0]["target"] = ["assert f() == 2"]
    _, samples = scored.write().score()
    assert samples["a"]["scores"] == {"pass_at_k pass^2": pytest.approx(1 / 6)}
    assert samples["a"]["answer_scores"] == {"pass_at_k pass^2": [1.0, 0.0, 1.0, 0.0]}


def test_rows_that_share_a_passage_are_a_cluster(tmp_path: Path) -> None:
    scored = sums(tmp_path, cluster_by="passage")
    for line, passage in zip(scored.lines, "aabbb", strict=True):
        line["row"]["passage"] = passage
    metric = scored.write().score()[0]["metrics"]["exact_match"]
    assert (metric["n"], metric["clusters"]) == (5, 2)
    assert metric["value"] == 0.4


def test_a_metric_of_all_samples_has_an_interval_too(tmp_path: Path) -> None:
    metrics = [{"name": "bleu", "resamples": 200}, {"name": "f1", "average": "macro"}]
    score, samples = sums(tmp_path, filters=[], metrics=metrics).score()
    assert score["metrics"]["bleu"]["interval"] == "bootstrap"
    assert "sacrebleu" in score["provenance"]["packages"]
    low, high = score["metrics"]["f1"]["ci95"]
    assert low <= score["metrics"]["f1"]["value"] <= high
    assert samples["a"]["scores"]["f1"] is None
    assert score == sums(tmp_path / "again", filters=[], metrics=metrics).score()[0]


def test_choices_are_judged_by_all_their_probabilities(tmp_path: Path) -> None:
    metrics = ["accuracy", {"name": "accuracy", "scoring": "char", "label": "acc_norm"}, "brier", "mc2", "perplexity"]
    scored = colours(tmp_path, metrics=metrics)
    scored.lines[0]["target"] = [0, 1]
    score, samples = scored.write().score()
    values = {label: metric["value"] for label, metric in score["metrics"].items()}
    assert (values["accuracy"], values["acc_norm"]) == (0.5, 1.0)
    assert samples["a"]["scores"]["mc2"] == pytest.approx(1.0)
    assert samples["a"]["target"] == [0, 1]
    assert values["perplexity"] == pytest.approx(math.exp((1 + 5) / 2))
    assert score["metrics"]["brier"]["higher_is_better"] is False
    assert score["metrics"]["perplexity"]["percent"] is False


def test_the_mean_over_groups_stands_beside_that_over_samples(tmp_path: Path) -> None:
    from shardmark.scoring.grouping import macro_estimates

    samples = [
        make_sample(group=group, scores={"accuracy": score})
        for group, scores in (("a", [1.0, 0.0, 1.0, 1.0]), ("b", [0.0, 1.0]))
        for score in scores
    ]
    micro = {"accuracy": make_metric(4 / 6, n=6), "f1": make_metric(0.1, n=6)}
    (found,) = macro_estimates(micro, {"accuracy"}, samples).items()
    assert found[0] == "accuracy (macro)"
    assert found[1].value == pytest.approx((0.75 + 0.5) / 2)
    assert found[1].stderr == pytest.approx((0.25**2 + 0.5**2) ** 0.5 / 2)
    assert (found[1].n, samples[0].scores) == (6, {"accuracy": 1.0, "accuracy (macro)": 1.0})
    assert macro_estimates(micro, {"accuracy"}, [make_sample(scores={"accuracy": 1.0})]) == {}


def test_what_is_no_mean_has_no_mean_over_groups_even_where_it_is_equal_by_chance(tmp_path: Path) -> None:
    scored = Scored(tmp_path, GENERATE | {"metrics": ["bleu", "exact_match"], "filters": [], "group_by": "n"})
    scored.ask("none", {"prompt": "?"}, answered("no"))
    for name in "ab":
        scored.sample(name, "none", ["a long answer of words"], group=name)
    score, _ = scored.write().score()
    assert (score["metrics"]["bleu"]["value"], set(score["metrics"])) == (
        0.0,
        {"bleu", "exact_match", "exact_match (macro)"},
    )


def test_each_setting_of_ifeval_has_a_value_with_an_error_bar(tmp_path: Path) -> None:
    levels = [{"name": "ifeval", "level": level, "label": level} for level in ("prompt", "instruction")]
    scored = Scored(tmp_path, GENERATE | {"metrics": levels, "filters": []})
    ids = ["punctuation:no_comma", "keywords:existence"]
    asked = json.dumps({"ids": ids, "kwargs": [{}, {"keywords": ["sun"]}], "prompt": "p"})
    for name, text in (("a", "The sun"), ("b", "Rain")):
        scored.ask(name, {"prompt": name}, answered(text))
        scored.sample(name, name, [asked])
    score, _ = scored.write().score()
    assert {label: metric["value"] for label, metric in score["metrics"].items()} == {
        "prompt": 0.5,
        "instruction": 0.75,
    }
    assert score["metrics"]["instruction"]["interval"] == "bootstrap"


def test_a_perplexity_beyond_all_numbers_is_null(tmp_path: Path) -> None:
    scored = Scored(tmp_path, {"kind": "rolling", "source": {"hub": "a/b"}, "prompt": "x", "metrics": ["perplexity"]})
    for name in "ab":
        scored.ask(name, {"text": name}, {"logprobs": [-2000.0], "tokens": [1], "greedy": [False]})
        scored.sample(name, name, 0, choices=[name])
    score, samples = scored.write().score()
    found = score["metrics"]["perplexity"]
    assert (found["value"], found["stderr"], found["ci95"], samples["a"]["scores"]["perplexity"]) == (None,) * 4


def test_a_damaged_request_file_is_refused_with_all_others(tmp_path: Path) -> None:
    scored = sums(tmp_path)
    for shard, damage in (("first", "{"), ("second", scored.request_file("second").read_text().replace("0+0", "0+1"))):
        scored.request_file(shard).write_text(damage)
    with pytest.raises(UserError) as error:
        scored.score()
    assert [problem.where for problem in error.value.problems] == [
        str(scored.request_file(shard)) for shard in ("first", "second")
    ]
