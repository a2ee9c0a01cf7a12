"""Serves model.json, the trees of a CatBoost model. Written by `turnout add --runtime python`; edit it as you like.

CatBoost itself does not fit into Lambda's 250 MB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MASK = (1 << 64) - 1
K0, K1, K2, K3 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
model: dict[str, Any] = {}


def load(folder: Path) -> None:
    """Read the trees, once, before the first request."""
    model.update(json.loads((folder / "model.json").read_text()))
    tables = {}
    for name, table in (model.get("ctr_data") or {}).items():
        stride, values = table["hash_stride"], table["hash_map"]
        rows = [values[at : at + stride] for at in range(0, len(values), stride)]
        tables[name] = {int(row[0]): [float(value) for value in row[1:]] for row in rows}
    model["tables"] = tables


def predict(inputs: dict[str, Array]) -> dict[str, Array]:
    """Return what the model answers to a request's rows."""
    numbers, hashes = read_columns(inputs)
    sums = add_trees(numbers, hashes)
    scale, bias = model["scale_and_bias"]
    raw = sums * scale + np.asarray(bias, np.float64).reshape(1, -1)
    kind, classes = model["kind"], model["classes"]
    if not classes:
        if kind == "uncertainty":
            raw[:, 1] = np.exp(2 * raw[:, 1])
        return {"prediction": np.exp(raw) if kind == "exponent" else raw}
    if kind == "softmax":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
    else:
        probabilities = 1 / (1 + np.exp(-raw))
        if kind == "binary":
            probabilities = np.hstack([1 - probabilities, probabilities])
    best = (probabilities[:, 1] > 0.5).astype(int) if kind == "binary" else raw.argmax(axis=1)
    label = np.array(classes, object if isinstance(classes[0], str) else None)[best]
    return {"label": label, "probabilities": probabilities}


def read_columns(inputs: dict[str, Array]) -> tuple[list[Array], list[Array]]:
    """Return the numbers of each numeric column in float32, and the hashes of each categorical one."""
    numbers: list[Array] = []
    hashes: list[Array] = []
    if model["matrix"]:
        return list(inputs[model["matrix"]].astype(np.float32).T), hashes
    for column in model["columns"]:
        values = inputs[column["name"]].reshape(-1)
        if not column["categorical"]:
            numbers.append(values.astype(np.float32))
            continue
        texts = values.tolist()
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in texts]
        known = {text: city_hash(text) & 0xFFFFFFFF for text in set(texts)}
        hashes.append(np.array([known[text] for text in texts], np.uint32).view(np.int32))
    return numbers, hashes


def add_trees(numbers: list[Array], hashes: list[Array]) -> Array:
    """Return the sums of the leaves' values that each row reaches, [row, output]."""
    rows = len((numbers or hashes)[0])
    features = model["features_info"]
    known: dict[str, list[int]] = {}
    columns: list[Array] = []
    for ctr in features.get("ctrs", ()):
        name = ctr["identifier"]
        if name not in known:
            known[name] = [combined_hash(ctr["elements"], numbers, hashes, at) for at in range(rows)]
        averages = [average(ctr, model["tables"][name].get(key), model["ctr_data"][name]) for key in known[name]]
        columns.append(np.array(averages, np.float32))
    splits: list[Array] = []
    for at, feature in enumerate(features.get("float_features", ())):
        filled = fill(numbers[at], feature)
        splits += [filled > np.float32(border) for border in feature.get("borders") or ()]
    for feature in features.get("categorical_features", ()):
        splits += [hashes[feature["feature_index"]] == value for value in feature.get("values") or ()]
    for values, ctr in zip(columns, features.get("ctrs", ()), strict=True):
        splits += [values > np.float32(border) for border in ctr["borders"]]
    width = len(model["scale_and_bias"][1])
    sums = np.zeros((rows, width))
    for tree in model.get("oblivious_trees", ()):
        leaf = np.zeros(rows, np.int64)
        for bit, split in enumerate(tree["splits"] or ()):
            leaf |= splits[split["split_index"]].astype(np.int64) << bit
        sums += np.asarray(tree["leaf_values"], np.float64).reshape(-1, width)[leaf]
    for tree in model.get("trees", ()):
        add_tree(tree, splits, sums)
    return sums


def add_tree(tree: dict[str, Any], splits: list[Array], sums: Array) -> None:
    """Add the values of one tree that is not symmetric."""
    parts = [(tree, np.arange(len(sums)))]
    while parts:
        node, rows = parts.pop()
        if "split" not in node:
            sums[rows] += np.asarray(node["value"], np.float64)
            continue
        is_right = splits[node["split"]["split_index"]][rows]
        parts += [(node["left"], rows[~is_right]), (node["right"], rows[is_right])]


def fill(values: Array, feature: dict[str, Any]) -> Array:
    """Return the column with its missing values replaced as in training."""
    lowest = {"AsFalse": -np.inf, "AsTrue": np.inf}.get(feature["nan_value_treatment"], np.nan)
    return np.where(np.isnan(values), np.float32(lowest), values)


def combined_hash(elements: list[dict[str, Any]], numbers: list[Array], hashes: list[Array], at: int) -> int:
    """Return the key of a row's categories in a table of averages."""
    result = 0
    for element in elements:
        kind = element["combination_element"]
        if kind == "cat_feature_value":
            value = int(hashes[element["cat_feature_index"]][at])
        elif kind == "float_feature":
            number = element["float_feature_index"]
            filled = fill(numbers[number][at : at + 1], model["features_info"]["float_features"][number])
            value = int(filled[0] > np.float32(element["border"]))
        else:
            value = int(hashes[element["cat_feature_index"]][at] == element["value"])
        result = 0x4906BA494954CB65 * (result + 0x4906BA494954CB65 * (value & MASK)) & MASK
    return result


def average(ctr: dict[str, Any], counts: list[float] | None, table: dict[str, Any]) -> float:
    """Return the average that training found for a category, from its counts; None is an unseen category."""
    kind, target = ctr["ctr_type"], ctr["target_border_idx"]
    good = total = 0.0
    if kind in ("Counter", "FeatureFreq"):
        good, total = (counts[0] if counts else 0.0), table["counter_denominator"]
    elif counts and kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
        good, total = counts
    elif counts:
        good = counts[target] if kind == "Buckets" else sum(counts[target + 1 :])
        total = sum(counts)
    share = (good + ctr["prior_numerator"]) / (total + ctr["prior_denomerator"])
    return float((share + ctr["shift"]) * ctr["scale"])


def city_hash(text: bytes) -> int:
    """Return the text's CityHash64 of version 1.0, which CatBoost computes of categories."""
    size = len(text)
    if size <= 16:
        return hash_short(text, size)
    if size <= 32:
        a, b, c, d = word(text, 0) * K1, word(text, 8), word(text, size - 8) * K2, word(text, size - 16) * K0
        return mix(turn(a - b, 43) + turn(c, 30) + d, a + turn(b ^ K3, 20) - c + size)
    if size <= 64:
        return hash_middle(text, size)
    x, y, z = word(text, 0), word(text, size - 16) ^ K1, word(text, size - 56) ^ K0
    v = weak(text, size - 64, size, y)
    w = weak(text, size - 32, size * K1, K0)
    z += shift(v[1]) * K1
    x, y = turn(z + x, 39) * K1, turn(y, 33) * K1
    for at in range(0, (size - 1) & ~63, 64):
        x = turn(x + y + v[0] + word(text, at + 16), 37) * K1
        y = turn(y + v[1] + word(text, at + 48), 42) * K1
        x, y = (x ^ w[1]) & MASK, (y ^ v[0]) & MASK
        z = turn((z & MASK) ^ w[0], 33)
        v = weak(text, at, v[1] * K1, x + w[0])
        w = weak(text, at + 32, z + w[1], y)
        z, x = x, z
    return mix(mix(v[0], w[0]) + shift(y) * K1 + z, mix(v[1], w[1]) + x)


def hash_short(text: bytes, size: int) -> int:
    """Hash up to 16 bytes."""
    if size > 8:
        a, b = word(text, 0), word(text, size - 8)
        return mix(a, turn(b + size, size)) ^ b
    if size >= 4:
        return mix(size + (word(text, 0, 4) << 3), word(text, size - 4, 4))
    if size:
        y, z = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
        return shift(y * K2 ^ z * K3) * K2 & MASK
    return K2


def hash_middle(text: bytes, size: int) -> int:
    """Hash 33 to 64 bytes."""
    pairs = []
    for z, a, others in (
        (word(text, 24), word(text, 0) + (size + word(text, size - 16)) * K0, (8, 16)),
        (word(text, size - 8), word(text, 16) + word(text, size - 32), (size - 24, size - 16)),
    ):
        b, c, middle = turn(a + z, 52), turn(a, 37), a + word(text, others[0])
        end = middle + word(text, others[1])
        pairs.append((end + z, b + turn(end, 31) + c + turn(middle, 7)))
    (vf, vs), (wf, ws) = pairs
    return shift(shift((vf + ws) * K2 + (wf + vs) * K0) * K0 + vs) * K2 & MASK


def word(text: bytes, at: int, size: int = 8) -> int:
    """Return bytes as a number."""
    return int.from_bytes(text[at : at + size], "little")


def turn(value: int, bits: int) -> int:
    """Rotate 64 bits to the right."""
    value &= MASK
    return (value >> bits | value << 64 - bits) & MASK


def shift(value: int) -> int:
    """Mix the upper bits into the lower ones."""
    value &= MASK
    return value ^ value >> 47


def mix(low: int, high: int) -> int:
    """Return one number of two."""
    factor = 0x9DDFEA08EB382D69
    first = shift(((low ^ high) & MASK) * factor)
    return shift(((high & MASK) ^ first) * factor) * factor & MASK


def weak(text: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """Return the two numbers of 32 bytes and two seeds."""
    a += word(text, at)
    z = word(text, at + 24)
    b = turn(b + a + z, 21)
    c = a
    a += word(text, at + 8) + word(text, at + 16)
    return (a + z) & MASK, (b + turn(a, 44) + c) & MASK
