"""Writes the transform of a model whose vectorizers prepare texts in a way that has no exact ONNX form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .start import RefusedJob

CODE = '''\
"""Prepares texts as the original's vectorizer does; in a graph, lowercase depends on the machine's locale."""

{imports}import unicodedata

import numpy as np

COLUMNS = {columns!r}
ACCENTS = {accents!r}  # strip_accents of the vectorizer
{constants}

def prepare(text):
{lower}    if ACCENTS:
        text = unicodedata.normalize("NFKD", text)
        if ACCENTS == "ascii":
            text = text.encode("ascii", "ignore").decode()
        text = "".join(sign for sign in text if not unicodedata.combining(sign))
{stop}    return text


def preprocess(inputs):
    for name in COLUMNS:
        texts = inputs[name]
        prepared = [prepare(text.decode()) for text in texts.ravel().tolist()]
        inputs[name] = np.array(prepared, dtype=object).reshape(texts.shape)
    return inputs
'''

STOP = '    text = " ".join(word for word in WORD.findall(text) if word not in STOP_WORDS)\n'


def make_text_transform(vectorizers: Sequence[tuple[str, Any]]) -> str:
    """Return the source of a transform, or nothing if the graph needs none.

    Args:
        vectorizers: each with the name of the column that it reads.

    Raises:
        RefusedJob: the vectorizers prepare their texts in different ways.
    """
    lower = {bool(vectorizer.lowercase) for _, vectorizer in vectorizers}
    accents = {vectorizer.strip_accents for _, vectorizer in vectorizers}
    stopped = {_stop_words(vectorizer) for _, vectorizer in vectorizers}
    if not vectorizers or (lower == {False} and accents == {None} and stopped == {()}):
        return ""
    if max(map(len, (lower, accents, stopped))) > 1 or any(callable(value) for value in accents):
        raise RefusedJob("its vectorizers prepare their texts in different ways, which Turnout does not support")
    words = next(iter(stopped))
    pattern = vectorizers[0][1].token_pattern
    return CODE.format(
        columns=tuple(dict.fromkeys(name for name, _ in vectorizers)),
        accents=next(iter(accents)),
        lower="    text = text.lower()\n" if True in lower else "",
        imports="import re\n" if words else "",
        constants=f"WORD = re.compile({pattern!r})\nSTOP_WORDS = frozenset({sorted(words)!r})\n" if words else "",
        stop=STOP if words else "",
    )


def removes_stop_words(vectorizer: Any) -> bool:
    """Whether the transform, instead of the graph, removes the stop words.

    skl2onnx leaves an empty word in place of a stop word, so words on both sides of it form no n-gram.
    """
    return bool(_stop_words(vectorizer))


def _stop_words(vectorizer: Any) -> tuple[str, ...]:
    """Return the stop words that affect n-grams, sorted."""
    if vectorizer.analyzer != "word" or tuple(vectorizer.ngram_range) == (1, 1) or vectorizer.tokenizer is not None:
        return ()
    return tuple(sorted(vectorizer.get_stop_words() or ()))
