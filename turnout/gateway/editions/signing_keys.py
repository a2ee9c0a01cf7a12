"""The access key that signs requests to stages with `auth: iam` on this machine: made once, then kept."""

from __future__ import annotations

import json
import secrets
import string
from pathlib import Path

from turnout.gateway.editions.api_keys import lock_folder
from turnout.problems import Problem, ProblemsError
from turnout.system.files import PRIVATE, write_whole

FILE = "signing_key.json"

_IDS = string.ascii_uppercase + "234567"
_SECRETS = string.ascii_letters + string.digits


def load_signing_key(folder: Path) -> tuple[str, str]:
    """Return the access key and the secret key in the project's `.turnout`; they are made if missing.

    Raises:
        OSError: the folder cannot be written.
        ProblemsError: the file has another format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    with lock_folder(folder):
        try:
            fields = json.loads(path.read_bytes())
            return str(fields["access_key_id"]), str(fields["secret_access_key"])
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            hint = "Delete it: a new key is made at the next start."
            problem = Problem("is not what `turnout serve` writes", source=str(path), hint=hint)
            raise ProblemsError((problem,)) from None
        # Twenty characters, as in AWS's access keys; AWS does not use this prefix.
        access = "LOCAL" + "".join(secrets.choice(_IDS) for _ in range(15))
        secret = "".join(secrets.choice(_SECRETS) for _ in range(40))
        text = json.dumps({"access_key_id": access, "secret_access_key": secret}, indent=2)
        write_whole(path, f"{text}\n".encode(), PRIVATE)
    return access, secret
