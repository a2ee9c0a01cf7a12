"""What Pulumi runs: models.yaml on AWS."""

from pathlib import Path

from turnout.infra.program import deploy

deploy(Path(__file__).resolve().parent.parent)
