"""What Pulumi runs: the API of the models.yaml beside this folder."""

from pathlib import Path

from infra.program import deploy

deploy(Path(__file__).resolve().parent.parent)
