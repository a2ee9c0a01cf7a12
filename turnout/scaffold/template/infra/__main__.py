"""The Pulumi program of the project: models.yaml on AWS."""

from pathlib import Path

from turnout.infra.program import deploy

if __name__ == "__main__":  # the processes that build the packages import this file again
    deploy(Path(__file__).resolve().parent.parent)
