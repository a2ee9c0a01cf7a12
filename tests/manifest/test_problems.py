"""The errors of an invalid manifest: all of them together, each with its place, the expected value, and a remedy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from turnout.manifest.parser import parse_manifest
from turnout.problems import Problem, ProblemsError
from turnout.protocol.naming import RESERVED_MODELS, RESERVED_STAGES, RESERVED_VERSIONS

GOOD = """\
platform: acme
models:
  iris:
    versions:
      v1: {artifact: a.onnx}
      v2: {artifact: b.onnx}
  spam:
    versions:
      v1: {artifact: c.onnx}
stages:
  dev: {serve: {"*": newest}}
  prod: {serve: {iris: v1, spam: v1}}
"""


def problems_of(text: str) -> tuple[Problem, ...]:
    try:
        parse_manifest(text.encode(), path=Path("models.yaml"), source="models.yaml")
    except ProblemsError as error:
        return error.problems
    return ()


def test_valid_manifest_has_no_problems() -> None:
    assert problems_of(GOOD) == ()


V1 = "      v1: {artifact: a.onnx}"
PROD = "  prod: {serve: {iris: v1, spam: v1}}"
SPAM = "  spam:\n    versions:\n      v1: {artifact: c.onnx}\n"


def switch(cases: str) -> str:
    """`spam` as a switch with these cases."""
    return f"  spam: {{graph: {{switch: {{input: k, cases: [{cases}], otherwise: {{model: iris}}}}}}}}\n"


def canary(fields: str) -> str:
    """The stage `prod` with a canary with this judgement."""
    return f"{PROD[:-1]}, canary: {{percent: 10, serve: {{iris: v2}}, {fields}}}}}"


CASES = [
    # values
    (V1, "      v1: {artifact: a.onnx, memory_mb: 64}",
     "models.yaml:5:30: models.iris.versions.v1.memory_mb: must be 128-10240, got 64"),
    (V1, "      v1: {artifact: a.onnx, memory_mb: 1_024}", "memory_mb: must be a whole number, 128-10240, got 1_024"),
    (V1, "      v1: {artifact: a.onnx, memory_mb: '512'}", 'got "512"\n    Write it without quotes: 512.'),
    (V1, "      v1: {artifact: a.onnx, memory_mb: 512MB}", 'got "512MB"\n    Write it in MB, without the unit: 512.'),
    (V1, "      v1: {artifact: a.onnx, memory_mb: 2GB}", 'got "2GB"\n    Write it in MB, without the unit: 2048.'),
    (V1, "      v1: {artifact: a.onnx, memory_mb: 1.5GB}", 'got "1.5GB"\n    Write it in MB, without the unit: 1536.'),
    (V1, "      v1: {artifact: a.onnx, memory_mb: 2Gi}", 'got "2Gi"\n    Write it in MB, without the unit: 2048.'),
    (V1, "      v1: {artifact: a.onnx, memory_mb: lots}", '128-10240, got "lots"'),
    (V1, "      v1: {artifact: a.onnx, timeout_s: 1.50}", "timeout_s: must be a whole number, 1-900, got 1.50"),
    (V1, "      v1: {artifact: a.onnx, async: true}",
     "v1.async: no stage accepts asynchronous requests\n    Add `async: {}` to a stage."),
    (PROD, f"{PROD[:-1]}, async: {{max_attempts: 0}}}}", "stages.prod.async.max_attempts: must be 1-10, got 0"),
    (PROD, f"{PROD[:-1]}, async: {{ttl: 5}}}}", "unknown key `ttl`\n    Known keys: time_to_live_s, max_attempts"),
    (PROD, f"{PROD[:-1]}, async: true}}", "stages.prod.async: must be a mapping, got true\n    For example: {time_"),
    (PROD, f"{PROD[:-1]}, async: {{callback_hosts: ['https://a.b/c']}}}}", "must be a host's name in lower case"),
    (V1, "      v1: {artifact: a.onnx, timeout_s: 901}", "timeout_s: must be 1-900, got 901"),
    (V1, "      v1: {artifact: a.onnx, memroy_mb: 64}",
     "models.yaml:5:30: models.iris.versions.v1.memroy_mb: unknown key `memroy_mb`: did you mean `memory_mb`?"),
    (V1, "      v1: {artifact: a.onnx, zone: 1}", "unknown key `zone`\n    Known keys: runtime, artifact, sha256, kms"),
    (V1, "      v1: {memory_mb: 512}",
     "models.yaml:5:7: models.iris.versions.v1: `artifact` is missing\n    The model file"),
    (V1, "      v1: a.onnx",
     'v1: must be a mapping, got "a.onnx"\n    For example: {artifact: models/iris/v1/model.onnx}'),
    (V1, "      v1:", "v1: must be a mapping, got nothing"),
    (V1, "      v1: [a.onnx]", "v1: must be a mapping, got a list"),
    (V1, "      v1: {artifact: {}}", "artifact: must be text, got a mapping"),
    (V1, "      v1: {artifact: 1e3}",
     'must be text, got 1e3, which YAML 1.1 and 1.2 parse differently\n    Write it in quotes: "1e3".'),
    (V1, "      v1: {artifact: ''}", "artifact: must be a path, or s3://bucket/key, got"),
    (V1, "      v1: {artifact: https://x/y.onnx}", 'must be a path, or s3://bucket/key, got "https://x/y.onnx"'),
    (V1, f"      v1: {{artifact: s3://bucket, sha256: {'ab' * 32}}}", "must be a path, or s3://bucket/key"),
    (V1, "      v1: {artifact: a, sha256: abc}", 'sha256: must be 64 hexadecimal digits, got "abc"'),
    (V1, f"      v1: {{artifact: a, sha256: {'1' * 64}}}", "sha256: must be text, got 1111"),
    (V1, f"      v1: {{artifact: a, sha256: \"{'a' * 64}\\n\"}}", "sha256: must be 64 hexadecimal digits"),
    (V1, "      v1: {artifact: a, architecture: arm}",
     'must be one of arm64, x86_64, got "arm": did you mean `arm64`?'),
    (V1, "      v1: {artifact: a, breaking: yes}",
     "breaking: must be true or false, got yes, which YAML 1.1 and 1.2 parse differently\n    Write true"),
    (V1, "      v1: {artifact: a, transform: a.txt}", 'transform: must be the path of a .py file, got "a.txt"'),
    (V1, "      v1: {artifact: a, transform: a.py, requirements: [./local.whl]}",
     'requirements.0: must be a package with an optional version, like `pillow==12.0.0`, got "./local.whl"'),
    (V1, "      v1: {artifact: a, requirements: [pillow]}",
     "requirements: needs a `transform` that imports it\n    Add `transform`, or delete it."),
    (V1, "      v1: {artifact: a, examples: a.yaml}", 'examples: must be the path of a .json file, got "a.yaml"'),
    (V1, "      v1: {artifact: a, description: 2024-01-01}", 'Write it in quotes: "2024-01-01".'),
    (V1, "      v1: {artifact: a, description: 1.50}", 'must be text, got 1.50\n    Write it in quotes: "1.50".'),
    (V1, "      v1: {artifact: a, warm: {provisioned: 2, snap_start: true}}",
     "models.iris.versions.v1.warm: must have one of provisioned and snap_start, got both"),
    (V1, "      v1: {artifact: a, warm: {snap_start: true}, ephemeral_storage_mb: 513}",
     "must be 512 with `snap_start`, got 513: Lambda refuses more /tmp with SnapStart\n    Delete it, or"),
    (V1, "      v1: {artifact: a, warm: {provisioned: 3}, reserved_concurrency: 2}",
     "warm.provisioned: must be at most `reserved_concurrency`, 2, got 3\n    Set `reserved_concurrency` to 3 or more"),
    (V1, "      v1: {artifact: a, warm: {provisioned: 1}, reserved_concurrency: 0}", "must be at most"),
    (V1, "      v1: {artifact: a, kms_key_arn: 'arn:aws:kms:eu-west-1:123456789012:key/1-a'}",
     "v1.kms_key_arn: applies to artifacts in S3, but the artifact is a local file\n    Delete it, or keep"),
    (V1, f"      v1: {{artifact: 's3://bkt/a', sha256: {'a' * 64}, kms_key_arn: 'arn:aws:kms:eu:1:alias/a'}}",
     "v1.kms_key_arn: must be the ARN of the key, not an alias"),
    (V1, f"      v1: {{artifact: 's3://bkt/a', sha256: {'a' * 64}, kms_key_arn: 1234abcd-12ab-34cd-56ef-1234567890ab}}",
     "v1.kms_key_arn: must be the ARN of a KMS key"),
    (V1, "      v1: {artifact: a, warm: {}}", "warm: must not be empty\n    For example: {provisioned: 2}"),
    (V1, "      v1: {artifact: a, reserved_concurrency: -1}", "reserved_concurrency: must be 0-100000, got -1"),
    (V1, "      v1: {artifact: a, warm: {provisioned: 0}}", "provisioned: must be at least 1, got 0"),
    (V1, "      v1: {artifact: a, warm: {snap_strat: true}}", "`snap_strat`: did you mean `snap_start`?"),
    # files
    (V1, "      v1: {artifact: /a.onnx}",
     'models.yaml:5:12: models.iris.versions.v1.artifact: must be a path relative to this file\'s folder, got "/a'),
    (V1, "      v1: {artifact: ../a.onnx}", "artifact: must be below this file's folder, without `..`"),
    (V1, "      v1: {artifact: a, transform: b/../../x.py}", "transform: must be below this file's folder"),
    (V1, "      v1: {artifact: a, examples: ~/x.json}", "examples: must be a path relative to this file's folder"),
    (V1, "      v1: {artifact: s3://bucket/a.onnx}", "artifact: an artifact on S3 needs `sha256`"),
    (V1, "      v1: {artifact: a, transform: /etc/passwd}", "transform: must be the path of a .py file"),
    # names
    ("acme", "Acme Models", 'models.yaml:1:1: platform: must be lower-case words'),
    ("acme", "Acme Models", 'got "Acme Models"\n    Did you mean `acme-models`?'),
    ("acme", "a" * 33, "platform: must be at most 32 characters, got 33"),
    ("  iris:", "  Iris_Model:", "Iris_Model: a model's name must be lower-case words"),
    ("  iris:", "  Iris_Model:", "Did you mean `iris-model`?"),
    ("  iris:", "  bert-2:", "bert-2: a model's name must be"),
    ("  iris:", f"  {'m' * 41}:", "must be at most 40 characters, got 41"),
    ("      v2:", "      1.0:", 'models.iris.versions.1.0: a version\'s name must be lower-case letters and digits'),
    ("      v2:", "      1.0:", "Did you mean `1-0`?"),
    ("      v2:", f"      {'v' * 21}:", "must be at most 20 characters, got 21"),
    ("  dev:", "  Dev:", "stages.Dev: a stage's name must be"),
    ("  spam:", "  iris-route:",
     "models.yaml:7:3: models.iris-route: collides with the model `iris`: `irisRoute` is its stage variable"),
    *(("  iris:", f"  {word}:", f"models.{word}: `{word}` is a reserved word") for word in sorted(RESERVED_MODELS)),
    *(("      v2:", f"      {word}:", f".{word}: `{word}` is a reserved word") for word in sorted(RESERVED_VERSIONS)),
    *(("  dev:", f"  {word}:", f"stages.{word}: `{word}` is a reserved word") for word in sorted(RESERVED_STAGES)),
    # routing
    ("  iris:\n", "  iris:\n    routing: {fallback: v3}\n",
     "models.yaml:4:15: models.iris.routing.fallback: unknown version `v3`: did you mean `v2`?\n    iris has v1, v2."),
    ("  iris:\n", "  iris:\n    routing: {shadow: {version: v9, percent: 101}}\n", "unknown version `v9`"),
    ("  iris:\n", "  iris:\n    routing: {shadow: {version: v2, percent: 101}}\n", "must be 0-100, got 101"),
    ("  iris:\n", "  iris:\n    routing: {shadow: {version: v2}}\n", "shadow: `percent` is missing"),
    ("  spam:\n", "  spam:\n    routing: {shadow: {version: v1, percent: 5}}\n",
     "spam.routing.shadow.version: shadows itself: every stage serves `v1`"),
    ("  iris:\n", "  iris:\n    routing: {sticky: {header: x user}}\n", "must be a header's name"),
    ("  iris:\n", "  iris:\n    routing: {sticky: {}}\n",
     "sticky: must not be empty\n    For example: {header: x-user-id}"),
    # graphs
    (SPAM, "  spam: {graph: {model: irs}}\n", "spam.graph.model: unknown model `irs`: did you mean `iris`?"),
    (SPAM, "  spam: {graph: {model: iris, version: v9}}\n", "spam.graph.version: unknown version `v9`"),
    (SPAM, "  spam: {graph: {sequence: [{model: iris}, {modle: iris}]}}\n",
     "spam.graph.sequence.1: one of model, sequence, ensemble and switch is required"),
    (SPAM, "  spam: {graph: {model: iris, version: v1, fallback: true}}\n",
     "models.spam.graph.fallback: `iris` has no fallback\n    Name one at models.iris.routing.fallback"),
    (SPAM, "  spam: {graph: {model: iris, fallback: true}}\n", "models.spam.graph.fallback: requires `version`"),
    (SPAM, "  spam: {graph: {model: iris, sequence: [{model: iris}]}}\n",
     "spam.graph: must have one of model, sequence, ensemble and switch, got model, sequence"),
    (SPAM, "  spam: {graph: {model: iris}, versions: {v1: {artifact: a.onnx}}}\n",
     "models.spam: must have one of versions and graph, got both"),
    (SPAM, "  spam: {description: Nothing.}\n", "models.spam: one of versions and graph is required"),
    (SPAM, "  spam: {graph: {model: iris}, routing: {fallback: v1}}\n", "spam.routing: requires `versions`"),
    (SPAM, "  spam: {graph: {model: iris}}\n", "stages.prod.serve.spam: `spam` is a graph and has no versions"),
    (SPAM, "  spam: {graph: {sequence: []}}\n", "spam.graph.sequence: must not be empty"),
    (SPAM, "  spam: {graph: {sequence: {model: iris}}}\n",
     "spam.graph.sequence: must be a list, got a mapping\n    For example: [{model: scaler}, {model: iris}]"),
    (SPAM, "  spam: {graph: {model: spam}}\n", "spam.graph.model: calls itself in a circle: spam -> spam"),
    (SPAM, "  spam: {graph: {model: a}}\n  a: {graph: {sequence: [{model: iris}, {model: spam}]}}\n",
     ".model: calls itself in a circle: a -> spam -> a\n    Break the circle."),
    (SPAM, "  spam: {graph: {model: a}}\n  a: {graph: {model: iris}}\n  b: {graph: {model: a, version: v1}}\n",
     "models.b.graph.version: `a` is a graph and has no versions\n    Delete it."),
    (SPAM, "".join(f"  {a}: {{graph: {{model: {b}}}}}\n" for a, b in pairwise(["spam", *"abcdefghij", "iris"])),
     "models.spam.graph: nests graphs 11 levels deep, at most 10 are allowed"),
    (SPAM, "  spam: {graph: {ensemble: [{model: iris}], combine: mean}}\n",
     "spam.graph.ensemble: has one member, so there is nothing to combine"),
    (SPAM, "  spam: {graph: {ensemble: [{model: iris}, {model: iris}]}}\n",
     "spam.graph.ensemble: requires `combine`"),
    (SPAM, "  spam: {graph: {ensemble: [{model: iris}, {model: iris}], combine: maen}}\n",
     'combine: must be one of mean, vote, concatenate, or a mapping, got "maen": did you mean `mean`?'),
    (SPAM, "  spam: {graph: {ensemble: [{model: iris}, {model: iris}], combine: {x: max}}}\n",
     'combine.x: must be one of mean, vote, concatenate, got "max"'),
    # switches
    (SPAM, switch("{equals: 1, then: {model: iris}}, {equals: 1.0, then: {model: iris}}"),
     "spam.graph.switch.cases.1: `equals: 1.0` never matches: earlier cases match all of its values"),
    (SPAM, switch("{below: 5, then: {model: iris}}, {below: 5, then: {model: iris}}"), "`below: 5` never matches"),
    (SPAM, switch("{below: 5, then: {model: iris}}, {equals: 4, then: {model: iris}}"), "`equals: 4` never matches"),
    (SPAM, switch("{above: 5, then: {model: iris}}, {above: 6, then: {model: iris}}"), "`above: 6` never matches"),
    (SPAM, switch("{above: 5, then: {model: iris}}, {below: 6, then: {model: iris}}"),
     "spam.graph.switch.otherwise: is never reached: the cases match every value"),
    (SPAM, switch("{above: 5, then: {model: iris}}, {below: 5, then: {model: iris}}, {equals: 5, then: {model: iris}}"),
     "switch.otherwise: is never reached"),
    (SPAM, switch("{equals: true, then: {model: iris}}, {equals: false, then: {model: iris}}"),
     "switch.otherwise: is never reached"),
    (SPAM, switch("{equals: a, then: {model: iris}}, {equals: 1, then: {model: iris}}"),
     "cases: the cases compare with a string and with a number: no tensor has both types"),
    (SPAM, switch("{below: a, then: {model: iris}}"), 'cases.0.below: must be a number, got "a"'),
    (SPAM, switch("{equals: [], then: {model: iris}}"), "equals: must be text, a number or true or false, got a list"),
    (SPAM, switch("{equals: on, then: {model: iris}}"), 'parse differently\n    Write it in quotes: "on".'),
    (SPAM, switch("{equals: 1, below: 2, then: {model: iris}}"),
     "cases.0: must have one of equals, below and above, got equals, below"),
    (SPAM, switch("{equals: 1}"), "cases.0: `then` is missing"),
    # settings of a version
    (V1, "      v1: {artifact: a, environment: {AWS_REGION: x}}",
     "environment.AWS_REGION: a variable's name must be at least two letters, digits and underscores"),
    (V1, "      v1: {artifact: a, environment: {_x: x}}", "environment._x: a variable's name must be"),
    (V1, "      v1: {artifact: a, environment: {XY: 1}}", 'XY: must be text, got 1\n    Write it in quotes: "1".'),
    (V1, "      v1: {artifact: a, ephemeral_storage_mb: 511}", "ephemeral_storage_mb: must be 512-10240, got 511"),
    (V1, "      v1: {artifact: a, slo: {}}", "slo: must not be empty\n    For example: {p99_ms: 200"),
    (V1, "      v1: {artifact: a, slo: {error_percent: 0}}", "error_percent: must be above 0 and at most 100, got 0"),
    (V1, "      v1: {artifact: a, capture: {percent: 1, redact: [x, y, x]}}", 'redact.2: duplicate item "x"'),
    (V1, "      v1: {artifact: a, capture: {redact: [x]}}", "capture: `percent` is missing"),
    # judgement
    (PROD, canary("steps: [5, 25, 25]"), "canary.steps.2: must be more than the step before, 25, got 25"),
    (PROD, canary("steps: [0, 5]"), "canary.steps.0: must be above 0 and at most 100, got 0"),
    (PROD, canary("strategy: linear, steps: [5]"),
     "canary.steps: needs `strategy: canary`, but the strategy is linear"),
    (PROD, canary(f"alarms: {[f'a{number}' for number in range(31)]}"),
     "canary.alarms: must have at most 30 entries, got 31"),
    (PROD, canary(f"alarms: [{'a' * 256}]"), "canary.alarms.0: must be at most 255 characters, got 256"),
    (PROD, canary("step_percent: 5"), "canary.step_percent: needs `strategy: linear`, but the strategy is canary"),
    (PROD, canary("confidence: 1"), "canary.confidence: must be above 0.5 and below 1, got 1"),
    (PROD, canary("agreement: {percent: 5}"), "agreement: `floor` is missing"),
    (PROD, canary("agreement: {percent: 5, floor: 0.9, rules: {y: argmix}}"),
     'rules.y: must be one of equal, argmax, or a mapping, got "argmix": did you mean `argmax`?'),
    (PROD, canary("agreement: {percent: 5, floor: 0.9, rules: {y: {absolute: 1, cosine: 1}}}"),
     "rules.y: must have one of absolute, relative and cosine, got absolute, cosine"),
    (PROD, canary("agreement: {percent: 5, floor: 0.9, rules: {y: {cosine: 2}}}"), "cosine: must be -1 to 1, got 2"),
    ("acme\n", "acme\ndefaults: {canary: {strategy: linear, steps: [5]}}\n", "defaults.canary.steps: needs `strategy"),
    ("acme\n", "acme\nopen_inference: yes\n", 'open_inference: must be one of proxy, direct, "off", got yes'),
    ("acme\n", "acme\nopen_inference: off\n", 'parse differently\n    Write it in quotes: "off".'),
    # tokens
    (PROD, f"{PROD[:-1]}, auth: jwt}}", "stages.prod.auth: needs `jwt`"),
    (PROD, f"{PROD[:-1]}, jwt: {{issuer: https://x, audience: [me]}}}}", "stages.prod.jwt: requires `auth: jwt`"),
    (PROD, f"{PROD[:-1]}, auth: jwt, jwt: {{issuer: http://x, audience: [me]}}}}",
     "jwt.issuer: must be an address that begins with https://"),
    (PROD, f"{PROD[:-1]}, auth: jwt, jwt: {{issuer: https://x, audience: []}}}}", "jwt.audience: must not be empty"),
    # stages
    (PROD, "  prod:", "models.yaml:12:3: stages.prod: must be a mapping, got nothing"),
    (PROD, "  prod: {serve: {irs: v1, '*': newest}, canary: {percent: 10, serve: {iris: v2}}}", "unknown model `irs`"),
    (PROD, "  prod: {serve: {iris: v3, spam: v1}}",
     "models.yaml:12:18: stages.prod.serve.iris: unknown version `v3`: did you mean `v2`?"),
    (PROD, "  prod: {serve: {irs: v1, iris: v1, spam: v1}}", "unknown model `irs`: did you mean `iris`?"),
    (PROD, "  prod: {serve: {iris: 1, spam: v1}}", 'iris: must be text, got 1\n    Write it in quotes: "1".'),
    (PROD, "  prod: {serve: {iris: on, spam: v1}}", 'Write it in quotes: "on".'),
    (PROD, "  prod: {serve: {iris: newest, spam: v1}}", "unknown version `newest`\n    `newest` is only allowed in"),
    (PROD, "  prod: {serve: {iris: v1}}",
     ('models.yaml:12:10: stages.prod.serve: does not name this model: `spam`\n'
      '    Name each one under `serve`, or add `"*"')),
    (PROD, "  prod: {auth: none}", "models.yaml:12:3: stages.prod: does not name these models: `iris`, `spam`"),
    (PROD, "  prod: {serve: {'*': v1}}", 'stages.prod.serve.*: must be newest, got "v1"'),
    (PROD, "  prod: {serve: {'*': newest}, weights: {iris: {v1: 50, v2: 49}}}",
     "models.yaml:12:42: stages.prod.weights.iris: weights must add up to 100, got 99"),
    (PROD, "  prod: {serve: {'*': newest}, weights: {iris: {v1: 50, v3: 50}}}",
     "stages.prod.weights.iris.v3: unknown version `v3`"),
    (PROD, "  prod: {serve: {'*': newest}, weights: {irs: {v1: 100}}}", "unknown model `irs`"),
    (PROD, "  prod: {serve: {'*': newest}, weights: {iris: {}}}", "weights.iris: must not be empty"),
    (PROD, "  prod: {serve: {'*': newest}, weights: {iris: {v1: -1, v2: 101}}}", "must be 0-100, got -1"),
    (PROD, "  prod: {serve: {'*': newest}, weights: {iris: {v1: .nan}}}", "must be a number, 0-100, got .nan"),
    (PROD, "  prod: {serve: {iris: v1, spam: v1}, weights: {iris: {v1: 100}}}",
     "models.yaml:12:18: stages.prod.serve.iris: `iris` is also under `weights`\n    Delete one of the two."),
    (PROD, f"{PROD[:-1]}, auth: apikey}}",
     'stages.prod.auth: must be one of none, api_key, iam, jwt, got "apikey": did you mean `api_key`?'),
    (PROD, f"{PROD[:-1]}, throttle: {{rate: 0, burst: 1}}}}", "throttle.rate: must be above 0, got 0"),
    (PROD, f"{PROD[:-1]}, throttle: {{rate: 1}}}}", "throttle: `burst` is missing"),
    (PROD, f"{PROD[:-1]}, throttle: 100}}", "must be a mapping, got 100\n    For example: {rate: 100, burst: 200}"),
    # canary
    (PROD, f"{PROD[:-1]}, canary: {{serve: {{iris: v2}}}}}}", "stages.prod.canary: `percent` is missing"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10}}}}",
     "models.yaml:12:39: stages.prod.canary: the canary changes nothing"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10, serve: {{iris: v1}}}}}}",
     "canary.serve: the canary changes nothing: prod serves iris v1 already"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10, serve: {{iris: v3}}}}}}", "canary.serve.iris: unknown version `v3`"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10, serve: {{irs: v3}}}}}}", "canary.serve.irs: unknown model `irs`"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10, serve: {{'*': newest}}}}}}", "a canary must name each model"),
    (PROD, f"{PROD[:-1]}, canary: {{percent: 10, serve: {{iris: 2}}}}}}", "canary.serve.iris: must be text, got 2"),
    # the whole file
    (GOOD, "platform: x\n", "models.yaml:1:1: `models` is missing"),
    (GOOD, "platform: x\n", "models.yaml:1:1: `stages` is missing"),
    (GOOD, "models: {}\nstages: {}\n", "models: must not be empty"),
    (GOOD, "models: {m: {versions: {}}}\nstages: {dev: {}}\n", "models.m.versions: must not be empty"),
    (GOOD, "", "models.yaml:1:1: is empty"),
    (GOOD, "a: b: c\n", "models.yaml:1:5: a `:` is not allowed here"),
    ("platform: acme", "platform: acme\nplatform: acme",
     "models.yaml:2:1: platform: duplicate key, first defined on line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_problem_is_reported_with_its_place_and_remedy(old: str, new: str, expected: str) -> None:
    assert GOOD.count(old) >= 1
    result = problems_of(GOOD.replace(old, new, 1))
    assert expected in "\n".join(map(str, result))


ALONE = [
    *(case for case in CASES if case[0] == V1),
    *(case for case in CASES if case[0] == PROD and "-1" not in case[1]),  # with its 101, this case has two problems
]


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new, _ in ALONE])
def test_one_mistake_is_one_problem(old: str, new: str) -> None:
    assert len(problems_of(GOOD.replace(old, new, 1))) == 1


@pytest.mark.parametrize(
    "stage",
    [
        "{serve: {iris: v1, spam: v1}, canary: {percent: 0.5, serve: {iris: v2}}}",
        "{serve: {iris: v1, spam: v1}, canary: {percent: 10, serve: {iris: v2, spam: v1}}}",
        "{serve: {iris: v1, spam: v1}, canary: {percent: 10, release: true}}",
        "{serve: {iris: v1, spam: v1}, canary: {percent: 0, release: true, serve: {iris: v1}}}",
        "{serve: {spam: v1}, weights: {iris: {v1: 33.3, v2: 66.7}}, canary: {percent: 10, serve: {iris: v2}}}",
        "{serve: {spam: v1, '*': newest}, weights: {iris: {v1: 0, v2: 100}}}",
        "{weights: {iris: {v1: 100}, spam: {v1: 100}}}",
    ],
)
def test_valid_stages_are_accepted(stage: str) -> None:
    assert problems_of(GOOD.replace(PROD, f"  prod: {stage}")) == ()


def test_shadow_served_by_one_stage_is_fine_while_another_serves_something_else() -> None:
    text = GOOD.replace("  iris:\n", "  iris:\n    routing: {shadow: {version: v2, percent: 5}, fallback: v1}\n")
    assert problems_of(text) == ()


def test_all_problems_are_reported_together_in_the_order_of_the_file() -> None:
    text = """\
models:
  iris:
    versions:
      v1: {artifact: a.onnx, memory_mb: 64, memory_mb: 65}
      v2: {artifact: /b.onnx}
stages:
  prod:
    serve: {iris: v3}
    auth: nobody
    auth: &x none
"""
    result = problems_of(text)
    assert [(problem.line, problem.path[-1]) for problem in result] == [
        (4, "memory_mb"),
        (4, "memory_mb"),
        (5, "artifact"),
        (8, "iris"),
        (9, "auth"),
        (10, "auth"),
        (10, "auth"),
    ]
    assert all(problem.source == "models.yaml" for problem in result)


def test_an_unreadable_alias_causes_no_further_problems() -> None:
    result = problems_of(GOOD.replace(PROD, "  prod: {serve: *same}"))
    assert [problem.message for problem in result] == ["anchors and aliases are not supported (`*same`)"]


def test_no_term_of_the_schema_language_is_reported() -> None:
    text = "\n".join(str(problem) for old, new, _ in CASES for problem in problems_of(GOOD.replace(old, new, 1)))
    for word in ("additionalProperties", "is not of type", "schema", "regex", "does not match", "instance", "None"):
        assert word not in text
