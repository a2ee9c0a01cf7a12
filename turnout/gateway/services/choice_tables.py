"""`PUT` and `GET /turnout/choices/STAGE/SHA256.json`: tables of choices, which stage variables name.

A canary command writes the table of its change here before it changes the stage, as it writes it to the stack's bucket
on AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from turnout.gateway.rules.stored_tables import store_table
from turnout.gateway.services.aws_wire import AwsError, answer
from turnout.http_server.messages import Handler, Request, Response
from turnout.protocol.naming import OWN_SEGMENT
from turnout.protocol.routing.choice_tables import TABLES_FOLDER, TableError, is_table_name, table_path

PATH = f"/{OWN_SEGMENT}/{TABLES_FOLDER}"


def make_choice_tables(folder: Path | None, known: Mapping[str, str]) -> Handler:
    """Return the handler of the tables of one project.

    Args:
        folder: where they are stored; None if this server stores none.
        known: the tables of the plan, by name.
    """

    def answer_table(request: Request) -> Response:
        name = request.path.removeprefix(f"{PATH}/").removesuffix(".json")
        if not is_table_name(name):
            return AwsError(400, "BadRequestException", f"Ask for {PATH}/STAGE/SHA256.json").response()
        try:
            if request.method == "PUT" and folder is not None:
                store_table(folder, name, request.body.decode())
                return answer(200, {"name": name})
            if request.method == "GET":
                data = (
                    known[name].encode()
                    if name in known
                    else (folder or Path()).joinpath(table_path(name)).read_bytes()
                )
                return Response(200, (("Content-Type", "application/json"),), data)
        except (TableError, UnicodeDecodeError) as error:
            return AwsError(400, "BadRequestException", str(error)).response()
        except FileNotFoundError:
            return AwsError(404, "NotFoundException", f"There is no table {name}").response()
        except OSError as error:
            return AwsError(500, "InternalServerErrorException", f"{folder}: {error.strerror}").response()
        return AwsError(405, "BadRequestException", f"Ask with GET or PUT {PATH}/STAGE/SHA256.json").response()

    return answer_table
