"""Pulumi's entry point: deploys the API of the models.yaml next to this folder."""

from pathlib import Path

from infra.program import deploy

if __name__ == "__main__":  # the processes that build the packages import this file again
    deploy(Path(__file__).resolve().parent.parent)
