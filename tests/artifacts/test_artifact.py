from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.builders.graphs import external_tensor, value, write_external, write_graph, write_identity
from turnout.artifacts.artifact import Artifact, ArtifactError, digest_of, load_artifact
from turnout.artifacts.cache import SETTLED_AFTER_S


def later() -> float:
    """A time at which every file written by a test counts as settled."""
    return 4e9


def refusal(path: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(path, None)
    return caught.value


def test_artifact_of_one_file(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "model.onnx")
    artifact = load_artifact(path, None)
    assert (artifact.path, artifact.size_bytes, artifact.external_files) == (path, path.stat().st_size, ())
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [tensor.name for tensor in artifact.signature.inputs] == ["x"]


def test_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_identity(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    assert load_artifact(Path("model.onnx"), None).path == path


@pytest.mark.parametrize(
    ("content", "sentence", "hint"),
    [
        (b"", "is empty", "complete"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
            "is a Git LFS pointer",
            "git lfs pull",
        ),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is a PNG image", ""),
        (pickle.dumps({"a": 1}), "is a Python pickle", "skl2onnx"),
        (pickle.dumps([1], protocol=2), "is a Python pickle", "skl2onnx"),
        (b"PK\x03\x04\x14\x00", "is a zip archive", "torch.export.save"),
        (b"\x1f\x8b\x08\x00", "is gzip-compressed", "Unpack"),
        (b"\x1c\x00\x00\x00TFL3\x14", "is a TensorFlow Lite model", "tf2onnx"),
        (b"\x00\x01\x00\x00ORTM", "ORT format", "ONNX file"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"w":{}}', "is a safetensors file", "export"),
        (b"<!DOCTYPE html>\n<html>", "is an HTML or XML page", "web page"),
        (b'  {"error": "not found"}', "is JSON", "web page"),
        (b"hello", "is not an ONNX model", ""),
        (b"\x00" * 100, "is not an ONNX model", ""),
        (b"\x08\x09", "is not an ONNX model", ""),
        (b"\x80", "is not an ONNX model", ""),
        (os.urandom(16) + b"\xff" * 5000, "", ""),
    ],
)
def test_unknown_file_suffix_is_named_in_the_error(tmp_path: Path, content: bytes, sentence: str, hint: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    error = refusal(path)
    assert error.message.startswith("model.onnx ")
    assert sentence in error.message
    assert hint in error.hint


def test_missing_file_is_reported(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.onnx").message == f"no such file: {tmp_path / 'none.onnx'}"


def test_folder_is_reported(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path).message


def test_path_through_a_file_is_reported(tmp_path: Path) -> None:
    write_identity(tmp_path / "model.onnx")
    assert "cannot be read" in refusal(tmp_path / "model.onnx" / "model.onnx").message


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_truncated_download_is_reported(tmp_path: Path, share: float) -> None:
    path = write_graph(
        tmp_path / "model.onnx",
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", "FP32", ["n", 5000])],
        [value("y", "FP32", ["n", 5000])],
        [onnx.numpy_helper.from_array(np.ones(5000, np.float32), "w")],
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    error = refusal(path)
    assert "truncated" in error.message
    assert "complete" in error.hint


WHOLE = helper.make_model(
    helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "test",
        [value("x", "FP32", ["batch", 4])],
        [value("y", "FP32", ["batch", 4])],
        [external_tensor("w", "model.data", [4], offset=0, length=16)],
    ),
    opset_imports=[helper.make_opsetid("", 17)],
).SerializeToString()


@given(
    cut=st.integers(0, len(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_file_is_read_or_rejected_without_a_crash(
    tmp_path: Path, cut: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(WHOLE)
    for position, byte in changes:
        data[position] = byte
    path = tmp_path / "model.onnx"
    path.write_bytes(data[:cut])
    with suppress(ArtifactError):
        assert load_artifact(path, None).size_bytes == cut


@pytest.mark.parametrize("locations", [("model.data",), ("b.bin", "sub folder/ä.bin", "b.bin")])
def test_external_data_is_in_the_artifact(tmp_path: Path, locations: tuple[str, ...]) -> None:
    path = write_external(tmp_path / "model.onnx", locations)
    artifact = load_artifact(path, None)
    files = tuple(tmp_path / name for name in sorted(set(locations)))
    assert artifact.external_files == files
    assert artifact.size_bytes == path.stat().st_size + 16 * len(files)
    # The command from the documentation.
    command = 'sha256sum "$@" | cut -c-64 | sha256sum'
    reported = subprocess.run(["sh", "-c", command, "sh", path, *files], capture_output=True, check=True, text=True)
    assert artifact.sha256 == reported.stdout[:64] == digest_of(path, reversed(files))


def test_digest_changes_with_external_data(tmp_path: Path) -> None:
    path = write_external(tmp_path / "model.onnx")
    before = load_artifact(path, tmp_path / "cache", clock=later).sha256
    (tmp_path / "model.data").write_bytes(np.ones(4, "<f4").tobytes())
    assert load_artifact(path, tmp_path / "cache", clock=later).sha256 != before


def test_external_data_in_subgraphs_and_attributes_is_found(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external_tensor("a", "attribute.bin", [1]))],
        "then",
        [],
        [value("c", "FP32", [1])],
        [external_tensor("b", "subgraph.bin", [1])],
    )
    nodes = [helper.make_node("If", ["on"], ["y"], then_branch=inner, else_branch=inner)]
    path = write_graph(tmp_path / "model.onnx", nodes, [value("on", "BOOL", [])], [value("y", "FP32", [1])])
    model = onnx.load(str(path), load_external_data=False)
    constant = helper.make_node("Constant", [], ["b"], value=external_tensor("f", "function.bin", [1]))
    model.functions.append(helper.make_function("ours", "F", [], ["b"], [constant], [helper.make_opsetid("", 17)]))
    path.write_bytes(model.SerializeToString())
    for name in ("attribute.bin", "subgraph.bin", "function.bin"):
        (tmp_path / name).write_bytes(b"\0\0\0\0")
    names = [file.name for file in load_artifact(path, None).external_files]
    assert names == ["attribute.bin", "function.bin", "subgraph.bin"]


@pytest.mark.parametrize(
    ("location", "sentence"),
    [
        ("../model.data", "outside the model's folder"),
        ("sub/../../model.data", "outside the model's folder"),
        ("sub/../model.data", "outside the model's folder"),
        ("/etc/passwd", "outside the model's folder"),
        ("", "without a file name"),
        (".", "without a file name"),
        ("missing.data", " needs the file missing.data next to it: no such file"),
        ("folder", " needs the file folder next to it: no such file"),
        ("*/_ORT_MEM_ADDR_/*", "no such file"),
    ],
)
def test_external_data_outside_the_folder_is_rejected(tmp_path: Path, location: str, sentence: str) -> None:
    (tmp_path / "m" / "folder").mkdir(parents=True)
    (tmp_path / "model.data").write_bytes(bytes(16))
    (tmp_path / "m" / "model.data").write_bytes(bytes(16))
    path = write_external(tmp_path / "m" / "model.onnx", (location,), write_data=False)
    assert sentence in refusal(path).message


def test_truncated_external_data_is_rejected(tmp_path: Path) -> None:
    path = write_external(tmp_path / "model.onnx")
    (tmp_path / "model.data").write_bytes(bytes(15))
    assert refusal(path).message == "model.onnx needs 16 bytes of model.data, which has 15"


def test_external_data_that_is_a_git_lfs_pointer_is_reported(tmp_path: Path) -> None:
    tensor = external_tensor("w", "model.data", [4000], offset=0, length=16000)
    path = write_graph(tmp_path / "model.onnx", [], [value("x", "FP32", [1])], [value("y", "FP32", [1])], [tensor])
    (tmp_path / "model.data").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 16000\n")
    assert refusal(path).message.startswith("model.data is a Git LFS pointer")


@pytest.mark.parametrize("offset", ["-1", "many", "9" * 30, "٣"])
def test_external_data_with_an_invalid_offset_is_rejected(tmp_path: Path, offset: str) -> None:
    tensor = external_tensor("w", "model.data", [4], offset=offset)
    path = write_graph(tmp_path / "model.onnx", [], [value("x", "FP32", [1])], [value("y", "FP32", [1])], [tensor])
    (tmp_path / "model.data").write_bytes(bytes(16))
    assert "not a number of bytes" in refusal(path).message


def test_links_are_followed_as_onnxruntime_does(tmp_path: Path) -> None:
    blobs = write_external(tmp_path / "blobs" / "model.onnx")
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("model.onnx", "model.data"):
        (hub / name).symlink_to(blobs.parent / name)
    onnxruntime.InferenceSession(str(hub / "model.onnx"))
    linked = load_artifact(hub / "model.onnx", None)
    assert linked.external_files == (hub / "model.data",)
    assert linked.sha256 == load_artifact(blobs, None).sha256

    escaping = write_external(tmp_path / "escaping" / "model.onnx", write_data=False)
    (escaping.parent / "model.data").symlink_to(blobs.parent / "model.data")
    with pytest.raises(Exception, match="escapes model directory"):
        onnxruntime.InferenceSession(str(escaping))
    assert "a link to outside of the model's folder" in refusal(escaping).message


def marked_entries(cache: Path) -> None:
    """Change every cached signature, so that a result shows whether it came from the cache."""
    for entry in (cache / "signatures").glob("*.json"):
        fields = orjson.loads(entry.read_bytes())
        fields["signature"]["metadata"] = {"from": "cache"}
        entry.write_bytes(orjson.dumps(fields))


def is_remembered(artifact: Artifact) -> bool:
    return artifact.signature.metadata.get("from") == "cache"


@pytest.mark.parametrize("external", [False, True])
def test_unchanged_artifact_is_read_from_the_cache(tmp_path: Path, external: bool) -> None:
    path = write_external(tmp_path / "model.onnx") if external else write_identity(tmp_path / "model.onnx")
    cache = tmp_path / "cache"
    first = load_artifact(path, cache, clock=later)
    assert load_artifact(path, cache, clock=later) == first
    marked_entries(cache)
    again = load_artifact(path, cache, clock=later)
    assert is_remembered(again)
    assert (again.sha256, again.size_bytes, again.external_files) == (
        first.sha256,
        first.size_bytes,
        first.external_files,
    )


def test_progress_is_reported_for_a_computed_digest_but_not_for_a_cached_one(tmp_path: Path) -> None:
    path = write_external(tmp_path / "model.onnx")
    remarks: list[tuple[str, int]] = []

    def reading(name: str, size_bytes: int) -> AbstractContextManager[None]:
        remarks.append((name, size_bytes))
        return nullcontext()

    for _ in range(2):
        size_bytes = load_artifact(path, tmp_path / "cache", clock=later, reading=reading).size_bytes
    assert remarks == [("model.onnx", size_bytes)]


def test_changed_file_is_read_again_even_with_its_old_time(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "model.onnx", "FP32")
    before = path.stat()
    load_artifact(path, tmp_path / "cache", clock=later)
    write_identity(path, "FP64")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert load_artifact(path, tmp_path / "cache", clock=later).signature.inputs[0].datatype == "FP64"


def test_deleted_external_data_is_noticed(tmp_path: Path) -> None:
    path = write_external(tmp_path / "model.onnx")
    load_artifact(path, tmp_path / "cache", clock=later)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        load_artifact(path, tmp_path / "cache", clock=later)


def test_a_file_written_just_now_is_not_cached(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "model.onnx")
    changed = path.stat().st_ctime
    for wait, trusted in ((SETTLED_AFTER_S / 2, False), (SETTLED_AFTER_S * 2, True)):
        load_artifact(path, tmp_path / "cache", clock=lambda now=changed + wait: now)
        assert (tmp_path / "cache" / "files").exists() is trusted


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "0.0.0/0"}', b'{"format": FORMAT}', None]
)
@pytest.mark.parametrize("folder", ["files", "signatures"])
def test_damaged_cache_entry_is_replaced_without_an_error(tmp_path: Path, damage: bytes | None, folder: str) -> None:
    path = write_identity(tmp_path / "model.onnx")
    cache = tmp_path / "cache"
    first = load_artifact(path, cache, clock=later)
    (entry,) = (cache / folder).glob("*.json")
    fields = orjson.loads(entry.read_bytes())
    if damage is None:
        damage = orjson.dumps({key: "wrong" if key != "format" else text for key, text in fields.items()})
    entry.write_bytes(damage.replace(b"FORMAT", orjson.dumps(fields["format"])))
    assert load_artifact(path, cache, clock=later) == first
    assert orjson.loads(entry.read_bytes()) == fields


def test_invalid_digest_in_the_cache_is_ignored(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "model.onnx")
    cache = tmp_path / "cache"
    first = load_artifact(path, cache, clock=later)
    (entry,) = (cache / "files").glob("*.json")
    entry.write_bytes(orjson.dumps({**orjson.loads(entry.read_bytes()), "sha256": "../" + "a" * 61}))
    assert load_artifact(path, cache, clock=later) == first


def test_unwritable_cache_is_not_an_error(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "model.onnx")
    (tmp_path / "cache").write_text("a file, not a folder")
    assert load_artifact(path, tmp_path / "cache", clock=later) == load_artifact(path, None)


def test_concurrent_loads_share_a_cache(tmp_path: Path) -> None:
    paths = [
        write_identity(tmp_path / str(number % 3) / "model.onnx", "FP32", (number % 3,)) for number in range(3)
    ] * 20
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(lambda path: load_artifact(path, tmp_path / "cache", clock=later), paths))
    assert [artifact.path for artifact in result] == paths
    assert [artifact.signature.inputs[0].shape for artifact in result] == [(0,), (1,), (2,)] * 20
    assert len(list((tmp_path / "cache").rglob("*"))) == 2 + 3 + 3
