"""Whether a text message is spam: weighted words and pairs of words, and a logistic regression.

    python -m examples.spam.train [FOLDER]

Data: generated (messages.py). Input `text` BYTES [-1]: one message each, UTF-8. Outputs `label` BYTES [-1], `ham` or
`spam`, and `probabilities` FP32 [-1,2] in that order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from examples.spam.messages import make_messages
from examples.writing import OPSETS, example, folder_argument, protocol_request, write_version

SEED = 20240503
MESSAGES = 1200
SHOWN = (
    "URGENT! You have won a gift card, call 80086 to claim it now",
    "Are you coming to the cinema tonight? I will be late",
    "Grüße aus Köln 👋 see you at six thirty",
)
TOKEN = "[a-zA-Z0-9_]+"
"""The pattern of a word. scikit-learn's default (two or more letters of any alphabet) has no equivalent in ONNX."""


def main(folder: Path) -> None:
    messages, labels = make_messages(MESSAGES, SEED)
    train_messages, test_messages, train_labels, test_labels = train_test_split(
        messages, labels, test_size=0.3, random_state=SEED, stratify=labels
    )
    words = TfidfVectorizer(token_pattern=TOKEN, ngram_range=(1, 2), min_df=3, lowercase=True)
    classifier = Pipeline([("words", words), ("weights", LogisticRegression(C=10, tol=1e-10, max_iter=1000))])
    classifier.fit(train_messages, train_labels)
    right = classifier.score(test_messages, test_labels)
    print(f"spam v1: {right:.3f} right of {len(test_labels)} held out, {len(words.vocabulary_)} words")
    write_version(folder / "v1", convert(classifier), examples_of(classifier))


def convert(classifier: Pipeline) -> onnx.ModelProto:
    return to_onnx(
        classifier,
        name="spam_v1",
        initial_types=[("text", StringTensorType([None]))],
        # Without a locale onnxruntime uses en_US, which containers and Lambda do not have, and the session does not
        # open.
        options={"words": {"locale": "C"}, "weights": {"zipmap": False}},
        target_opset=OPSETS,
    )


def examples_of(classifier: Pipeline) -> list[dict[str, Any]]:
    def outputs(texts: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        probabilities = classifier.predict_proba(texts).astype(np.float32)
        return {"label": classifier.predict(texts).astype(object), "probabilities": probabilities}

    def request(texts: tuple[str, ...]) -> dict[str, Any]:
        return protocol_request({"text": np.array(texts, dtype=object)})

    return [
        example("spam", request(SHOWN[:1]), outputs(SHOWN[:1])),
        example("several", request(SHOWN), outputs(SHOWN)),
        example("short-form", {"inputs": {"text": list(SHOWN[1:])}}, outputs(SHOWN[1:])),
        example("instances", {"instances": list(SHOWN[:2])}, outputs(SHOWN[:2])),
    ]


if __name__ == "__main__":
    main(folder_argument("spam"))
