"""Trains real models in a converter's environment and converts them there: `python train.py KIND FOLDER`.

One process for all models of a kind: importing the libraries takes longer than everything else.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
JOB = {
    "samples": None,
    "rtol": 1e-4,
    "atol": 1e-5,
    "trusted_types": [],
    "runtime": "",
    "modules": [],
}


def table(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers, and a target that depends on them."""
    random = np.random.default_rng(0)
    x = np.round(random.normal(3, 2, (rows, 4)), 2)
    return x, x[:, 0] * 10 + x[:, 1] ** 2 + 5 * np.sin(x[:, 2]) + random.normal(0, 0.1, rows) + 150


X, Y = table()
CLASSES = np.digitize(Y, np.quantile(Y, [0.33, 0.66]))
TARGETS = np.column_stack([CLASSES > 0, CLASSES > 1]).astype(int)
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
TEXTS = ["The quick brown Fox", "a lazy dog sleeps", "the dog and the fox", "good day", "I love cats, dogs"]
TEXTS += ["don't stop", "Äpfel und Öl", "straße naïve café", "rot wie ÄPFEL", "bad dog"]


def frame() -> Any:
    """Return columns as users have them: numbers with missing values, texts, integers, booleans, one unused column."""
    import pandas as pd

    random = np.random.default_rng(0)
    rows = 300
    columns = {
        "age of person": random.integers(18, 90, rows),
        "fare.paid": np.where(random.random(rows) < 0.1, np.nan, random.gamma(2, 20, rows)),
        "city": random.choice(["Paris", "São Paulo", "NYC"], rows),
        "class": random.choice([1, 2, 3], rows),
        "vip": random.random(rows) < 0.3,
        "comment": random.choice(["x", "y"], rows),
    }
    return pd.DataFrame(columns)


def sklearn_models(folder: Path) -> None:
    """Estimators, pipelines, frames, texts, several outputs."""
    import joblib
    from sklearn import ensemble, linear_model, multioutput, naive_bayes, neighbors, neural_network, svm, tree
    from sklearn.cluster import KMeans
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    logistic = linear_model.LogisticRegression
    names = np.array(["low", "middle", "high"])[CLASSES]
    table = frame()
    is_old = ((table["age of person"] > 40) ^ (table["city"] == "Paris")).map({True: "yes", False: "no"})

    def columns() -> Any:
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        texts = OneHotEncoder(handle_unknown="ignore")
        return ColumnTransformer(
            [
                ("n", numbers, ["age of person", "fare.paid"]),
                ("c", texts, ["city", "class"]),
                ("v", "passthrough", ["vip"]),
            ]
        )

    import pandas as pd

    named = pd.DataFrame(X, columns=["sepal length (cm)", "b.c", "ä", "d"])
    texts, spam = TEXTS * 3, ["spam", "ham"] * 15
    mails = pd.DataFrame({"subject": texts, "amount": np.arange(30.0)})
    forest = ensemble.RandomForestClassifier
    fits: dict[str, tuple[Any, Any, Any]] = {
        "logistic": (logistic(max_iter=1000), X, CLASSES),
        "binary": (logistic(max_iter=1000), X, CLASSES > 0),
        "texts-as-classes": (make_pipeline(StandardScaler(), logistic()), named, names),
        "forest": (forest(10, random_state=0), X, CLASSES),
        "scaled-forest": (make_pipeline(StandardScaler(), forest(10, random_state=0)), X, CLASSES),
        "forest-of-frame": (forest(10, random_state=0), named, names),
        "forest-with-holes": (forest(10, random_state=0), HOLES, CLASSES),
        "tree": (tree.DecisionTreeClassifier(random_state=0), X, CLASSES),
        "extra-trees": (ensemble.ExtraTreesRegressor(10, random_state=0), X, Y),
        "scaled-forest-regressor": (make_pipeline(StandardScaler(), ensemble.RandomForestRegressor(10)), X, Y),
        "boosted": (ensemble.GradientBoostingClassifier(n_estimators=5), X, CLASSES),
        "boosted-regressor": (ensemble.GradientBoostingRegressor(n_estimators=5), X, Y),
        "histogram": (ensemble.HistGradientBoostingClassifier(max_iter=5), HOLES, CLASSES),
        "scaled-histogram": (make_pipeline(StandardScaler(), ensemble.HistGradientBoostingRegressor(max_iter=5)), X, Y),
        "ada": (ensemble.AdaBoostClassifier(n_estimators=4), X, CLASSES),
        "bagging": (ensemble.BaggingClassifier(n_estimators=3), X, CLASSES),
        "voting": (
            ensemble.VotingClassifier([("a", logistic(max_iter=1000)), ("b", forest(5))], voting="soft"),
            X,
            CLASSES,
        ),
        "stacking": (
            ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor())]),
            X,
            Y,
        ),
        "svc": (svm.SVC(), X, CLASSES),
        "svr": (make_pipeline(StandardScaler(), svm.SVR()), X, Y),
        "linear-svc": (svm.LinearSVC(), X, CLASSES > 0),
        "neighbors": (neighbors.KNeighborsClassifier(), X, CLASSES),
        "network": (neural_network.MLPClassifier(max_iter=30), X, CLASSES),
        "bayes": (naive_bayes.GaussianNB(), X, CLASSES),
        "two-targets": (linear_model.Ridge(), X, np.c_[Y, 2 * Y]),
        "two-classes": (multioutput.MultiOutputClassifier(logistic()), X, np.c_[CLASSES > 0, CLASSES > 1].astype(int)),
        "search": (GridSearchCV(logistic(max_iter=1000), {"C": [1, 10]}), X, CLASSES),
        "components": (make_pipeline(PCA(2), logistic()), X, CLASSES),
        "imputed": (make_pipeline(SimpleImputer(), StandardScaler(), logistic()), HOLES, CLASSES),
        "indicated": (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), logistic()), HOLES, CLASSES),
        "frame": (make_pipeline(columns(), logistic()), table, is_old),
        "forest-behind-frame": (make_pipeline(columns(), forest(10, random_state=0)), table, is_old),
        "ordinal": (
            make_pipeline(
                ColumnTransformer(
                    [("o", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"])]
                ),
                tree.DecisionTreeClassifier(),
            ),
            table,
            is_old,
        ),
        "words": (make_pipeline(TfidfVectorizer(), logistic()), texts, spam),
        "sublinear": (make_pipeline(TfidfVectorizer(sublinear_tf=True), logistic()), texts, spam),
        "pairs-around-stop-words": (
            make_pipeline(CountVectorizer(stop_words="english", ngram_range=(2, 3)), logistic()),
            texts,
            spam,
        ),
        "forest-of-two-targets": (forest(5, max_depth=3, random_state=0), HOLES, TARGETS),
        "tree-of-two-targets": (tree.DecisionTreeClassifier(max_depth=2, random_state=0), X, TARGETS),
        "histogram-of-categories": (
            ensemble.HistGradientBoostingRegressor(max_iter=5, categorical_features=[0]),
            np.column_stack([CLASSES, X[:, 0]]),
            Y,
        ),
        "pairs-of-words": (
            make_pipeline(CountVectorizer(ngram_range=(1, 2), strip_accents="unicode"), naive_bayes.MultinomialNB()),
            texts,
            spam,
        ),
        "words-of-frame": (
            make_pipeline(
                ColumnTransformer([("t", TfidfVectorizer(), "subject"), ("n", StandardScaler(), ["amount"])]),
                logistic(),
            ),
            mails,
            spam,
        ),
        "words-in-a-vote": (
            ensemble.VotingClassifier([("v", make_pipeline(TfidfVectorizer(), logistic()))], voting="soft"),
            texts,
            spam,
        ),
        "texts-without-names": (
            make_pipeline(
                ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), [0]), ("n", "passthrough", [1])]),
                logistic(),
            ),
            mails.to_numpy(object),
            spam,
        ),
        "dicts": (make_pipeline(DictVectorizer(), logistic()), mails.to_dict("records"), spam),
        "no-converter": (DummyClassifier(), X, CLASSES),
    }
    for name, (estimator, x, y) in fits.items():
        joblib.dump(estimator.fit(x, y), folder / f"{name}.joblib")
    joblib.dump(KMeans(3).fit(X), folder / "clusters.joblib")
    joblib.dump(StandardScaler().fit(X), folder / "scaler.joblib")
    joblib.dump(ensemble.IsolationForest(n_estimators=5).fit(X), folder / "outliers.joblib")


def xgboost_models(folder: Path) -> None:
    """Objectives, boosters, `base_score`, missing values, categories."""
    import pandas as pd
    import xgboost as xgb

    is_high = (CLASSES > 0).astype(int)
    city = frame()["city"].replace("São Paulo", "Sao Paulo").astype("category")
    table = pd.DataFrame({"a b": X[:, 0], "city": city, "c": X[:, 2]})
    worth = Y + table["city"].map({"Paris": 50, "NYC": -20, "Sao Paulo": 0}).astype(float)

    def train(name: str, label: Any, data: Any = X, rounds: int = 6, **parameters: Any) -> None:
        extra = {"qid": parameters.pop("qid")} if "qid" in parameters else {}
        matrix = xgb.DMatrix(data, label=label, enable_categorical=True, **extra)
        xgb.train(parameters, matrix, rounds).save_model(folder / f"{name}.ubj")

    train("binary", is_high, objective="binary:logistic")
    train("base-score", is_high, HOLES, objective="binary:logistic", base_score=0.2)
    train("multiclass", CLASSES, HOLES, objective="multi:softprob", num_class=3)
    train("labels", CLASSES, objective="multi:softmax", num_class=3)
    train("regression", Y, objective="reg:squarederror", base_score=100.0)
    train("counts", Y, objective="count:poisson")
    train("gamma", Y, objective="reg:gamma")
    train("raw", is_high, objective="binary:logitraw")
    train("ranking", CLASSES, objective="rank:ndcg", qid=np.repeat(np.arange(10), 30))
    train("dart", is_high, objective="binary:logistic", booster="dart", rate_drop=0.3)
    train("linear", Y, objective="reg:squarederror", booster="gblinear")
    train("two-targets", np.c_[Y, 2 * Y], objective="reg:squarederror")
    train("vector-leaves", np.c_[Y, 2 * Y], objective="reg:squarederror", multi_strategy="multi_output_tree")
    train("categories", worth, table, objective="reg:squarederror", max_cat_to_onehot=1)
    train("one-category", worth, table, objective="reg:squarederror", max_cat_to_onehot=100)
    foreign = table.assign(city=frame()["city"].astype("category"))
    train("cut-categories", worth, foreign, objective="reg:squarederror")
    named = pd.DataFrame(X, columns=list("wxyz"))
    early = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=2, learning_rate=1.0)
    random = np.random.default_rng(0).integers(0, 2, len(X))
    early.fit(named[:150], random[:150], eval_set=[(named[150:], random[150:])], verbose=False)
    early.save_model(folder / "stopped-early.json")


def lightgbm_models(folder: Path) -> None:
    """Objectives, boosters, kinds of missing values, categories."""
    import lightgbm as lgb
    import pandas as pd

    is_high = (CLASSES > 0).astype(int)
    table = pd.DataFrame({"a b": X[:, 0], "city": frame()["city"].astype("category"), "c": X[:, 2]})
    worth = Y + table["city"].map({"Paris": 50, "NYC": -20, "São Paulo": 0}).astype(float)
    codes = np.c_[X[:, 0], table["city"].cat.codes]

    def train(name: str, label: Any, data: Any = X, **parameters: Any) -> None:
        extra = {key: parameters.pop(key) for key in ("group", "categorical_feature") if key in parameters}
        given = {"verbose": -1, "min_data_in_leaf": 5, "min_data_per_group": 5, "cat_smooth": 1, **parameters}
        lgb.train(given, lgb.Dataset(data, label=label, **extra), 6).save_model(folder / f"{name}.txt")

    train("binary", is_high, objective="binary", sigmoid=2.0)
    train("multiclass", CLASSES, HOLES, objective="multiclass", num_class=3)
    train("one-against-all", CLASSES, objective="multiclassova", num_class=3)
    train("regression", Y)
    train("zero-is-missing", Y, np.where(np.isnan(HOLES), 0, HOLES), zero_as_missing=True)
    train("nothing-is-missing", Y, use_missing=False)
    train("root", Y, reg_sqrt=True)
    train("counts", Y, objective="poisson")
    train("forest", Y, boosting="rf", bagging_freq=1, bagging_fraction=0.7)
    train("dart", Y, boosting="dart")
    train("ranking", CLASSES, objective="lambdarank", group=[30] * 10)
    train("categories", worth, table)
    train("codes", worth, codes, categorical_feature=[1])
    train("linear-leaves", Y, linear_tree=True)


def catboost_models(folder: Path) -> None:
    """Losses, missing values, names."""
    import catboost
    import pandas as pd

    options = {"iterations": 6, "verbose": False, "allow_writing_files": False}
    named = pd.DataFrame(X, columns=["a b", "c.d", "e", "f"])
    names = np.array(["low", "middle", "high"])[CLASSES]
    classifier, regressor = catboost.CatBoostClassifier, catboost.CatBoostRegressor
    fits: dict[str, tuple[Any, Any, Any]] = {
        "binary": (classifier(**options), X, (CLASSES > 0).astype(int)),
        "multiclass": (classifier(**options), HOLES, names),
        "missing-is-max": (classifier(nan_mode="Max", **options), HOLES, CLASSES),
        "regression": (regressor(**options), X, Y),
        "frame": (regressor(**options), named, Y),
        "two-targets": (regressor(loss_function="MultiRMSE", **options), X, np.column_stack([Y, -Y])),
        "categories": (regressor(cat_features=["city"], **options), frame()[["city", "class"]], Y),
        "counts": (regressor(loss_function="Poisson", **options), X, np.abs(Y)),
        "lossguide": (regressor(grow_policy="Lossguide", **options), X, Y),
    }
    places = pd.DataFrame(
        {"city": np.array([*"abc", "São Paulo", "x" * 40, "y" * 99, "z" * 20, "0123456789"])[CLASSES]}
    )
    places = places.assign(floor=(np.arange(len(X)) % 7).astype(str), size=HOLES[:, 0])
    places.loc[::3, "city"] = "São Paulo"
    places.loc[::5, "city"] = "x" * 40
    places.loc[::7, "city"] = "y" * 99
    places.loc[::11, "city"] = "0123456789"
    places.to_csv(folder.parent / "catboost-rows.csv", index=False)
    plain = dict(options)
    options |= {"cat_features": ["city", "floor"], "max_ctr_complexity": 3}
    ctrs = {"simple_ctr": ["Buckets", "Counter", "BinarizedTargetMeanValue"]}
    fits |= {
        "python-multiclass": (classifier(**options), places, names),
        "python-binary": (classifier(one_hot_max_size=99, **options), places, CLASSES > 0),
        "python-each": (classifier(loss_function="MultiClassOneVsAll", nan_mode="Max", **options), places, CLASSES),
        "python-counts": (regressor(loss_function="Poisson", **ctrs, **options), places, np.abs(Y)),
        "python-variance": (regressor(loss_function="RMSEWithUncertainty", **options), places, Y),
        "python-halves": (classifier(**options), places, (CLASSES > 0) + 0.5),
        "python-lossguide": (regressor(grow_policy="Lossguide", **plain), X, Y),
    }
    for name, (model, x, y) in fits.items():
        model.fit(x, y)
        model.save_model(str(folder / f"{name}.cbm"))


def keras_models(folder: Path) -> None:
    """Dense, convolutional and recurrent layers, several inputs and outputs, whole numbers, a SavedModel."""
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    import keras

    layers, wide = keras.layers, X.astype(np.float32)
    keras.utils.set_random_seed(0)
    normal = layers.Normalization()
    normal.adapt(wide)
    parts = [layers.Input((4,)), normal, layers.Dense(80, "gelu"), layers.BatchNormalization()]
    dense = keras.Sequential([*parts, layers.Dropout(0.5), layers.Dense(3, "softmax", name="classes")])
    dense.compile("adam", "sparse_categorical_crossentropy")
    dense.fit(wide, CLASSES, verbose=0)
    dense.save(folder / "dense.keras")
    dense.save(folder / "legacy.h5")
    dense.export(str(folder / "saved"), verbose=False)
    image, words = layers.Input((8, 8, 3), name="image"), layers.Input((5,), dtype="int32", name="words")
    filtered = layers.Flatten()(layers.MaxPool2D()(layers.Conv2D(2, 3, activation="relu")(image)))
    joined = layers.Concatenate()([filtered, layers.GlobalAveragePooling1D()(layers.Embedding(30, 4)(words))])
    outputs = [layers.Dense(3, name="kind")(joined), layers.Dense(1, name="price")(joined)]
    keras.Model([image, words], outputs).save(folder / "two-inputs.keras")
    size, place = layers.Input((3,), name="größe (cm)"), layers.Input((2,), name="place: 1")
    block = keras.Sequential(
        [layers.Dense(2, name="in ner"), layers.BatchNormalization(name="(norm)")], name="my block"
    )
    priced = layers.Dense(1, name="the price")(block(layers.Concatenate()([size, place])))
    keras.Model({"größe (cm)": size, "place: 1": place}, [priced, size]).save(folder / "odd-names.keras")
    keras.Sequential([layers.Dense(1)]).save(folder / "without-inputs.keras")
    keras.Sequential([layers.Input((None, 4)), layers.LSTM(5), layers.Dense(1)]).save(folder / "sequence.keras")
    vectorize = layers.TextVectorization(max_tokens=20)
    vectorize.adapt(TEXTS)
    keras.Sequential([layers.Input((), dtype="string"), vectorize, layers.Embedding(20, 3)]).save(folder / "text.keras")
    keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(folder / "own-code.keras")
    keras.Sequential([layers.Input((4,), batch_size=2), layers.Dense(1)]).save(folder / "fixed-batch.keras")


def torch_models(folder: Path) -> None:
    """Exported programs: layers, several inputs and outputs, whole numbers, free and fixed dimensions, old mistakes."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    nn, batch = torch.nn, torch.export.Dim("batch")
    torch.manual_seed(0)

    def save(name: str, model: Any, inputs: tuple[Any, ...], shapes: Any, **named: Any) -> None:
        program = torch.export.export(model, inputs, named, dynamic_shapes=shapes)
        torch.export.save(program, folder / f"{name}.pt2")

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 5), nn.Linear(2, 5)

        def forward(self, left: Any, right: Any, scale: float) -> dict[str, Any]:
            hidden = torch.tanh(self.left(left) + self.right(right["b"])) * scale
            return {"score": hidden.sum(-1), "parts": (hidden, None)}

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.last = nn.Embedding(50, 8), nn.Linear(8, 2)

        def forward(self, ids: Any, mask: Any) -> Any:
            vectors = self.words(ids.clamp(min=0)) * mask.unsqueeze(-1)
            return self.last(vectors.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)), ids.argmax(1)

    class Noise(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + torch.randn_like(x)

    class Bessel(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))
    x, free = torch.randn(2, 4), ({0: batch},)
    save("dropout", nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), (x,), free)
    save("training", nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (x,), free)
    network.eval()
    save("network", nn.Sequential(network), (x,), free)
    save("few", network, (x,), ({0: torch.export.Dim("batch", min=2, max=30)},))
    save("fixed", network, (x,), None)
    save("random", Noise(), (x,), free)
    save("no-operator", Bessel(), (x,), free)
    shapes = {"left": {0: batch}, "right": {"b": {0: batch}}, "scale": None}
    save("two-inputs", Sum().eval(), (torch.randn(2, 3), {"b": torch.randn(2, 2)}), shapes, scale=0.5)
    both = {0: batch, 1: torch.export.Dim("length", min=2, max=64)}
    save("words", Words().eval(), (torch.randint(0, 9, (2, 7)), torch.ones(2, 7)), (both, both))


def main(kind: str, folder: Path) -> None:
    """Train and convert; print a line of JSON for each model."""
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    makers = {
        "sklearn": sklearn_models,
        "xgboost": xgboost_models,
        "lightgbm": lightgbm_models,
        "catboost": catboost_models,
        "keras": keras_models,
        "torch": torch_models,
    }
    makers[kind](folder)
    name = f"networks.{kind}_model" if kind in {"keras", "torch"} else f"{kind}_model"
    module = importlib.import_module(f"turnout.conversion.converters.{name}")
    refused = importlib.import_module("turnout.conversion.converters.start").RefusedJob
    job = {**JOB, "trust_pickle": kind == "sklearn", "opsets": json.loads(sys.argv[3])}
    for path in sorted(folder.iterdir()):
        out = folder / f"{path.stem}-out"
        out.mkdir()
        try:
            own: dict[str, object] = {}
            if path.stem.startswith("python-"):
                rows = None if path.stem == "python-lossguide" else str(folder.parent / f"{kind}-rows.csv")
                own = {"runtime": "python", "samples": rows}
            row = module.main({**job, **own, "path": str(path), "out": str(out)}, lambda _: None)
        except refused as error:
            row = {"error": error.message, "hint": error.hint}
        sys.stdout.write(json.dumps({"model": path.stem, "out": str(out), **row}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
