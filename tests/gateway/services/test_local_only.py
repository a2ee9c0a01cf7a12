"""Who may use paths that are not part of the API."""

from __future__ import annotations

import json

import pytest

from turnout.gateway.services.local_only import local_only
from turnout.http_server.messages import Request, Response

SENT = {
    "X_Amz_Date": "20261130T000000Z",
    "X_Amz_Content_SHA256": "0",
    "X_Amz_Invocation_Type": "Event",
    "X_Amz_Log_Type": "Tail",
    "X_Request_Id": "1",
    "traceparent": "00-1-1-01",
    "amz_sdk_invocation_id": "1",
    "amz_sdk_request": "attempt=1",
    "Accept_Encoding": "identity",
    "Connection": "keep-alive",
    "x_api_key": "key",
}
"""The headers that boto3, the AWS CLI and curl send."""


def ask(client: str, **headers: str) -> Response:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    result = local_only(lambda _: Response(200))(Request("GET", "/restapis", "", named, b"", client))
    assert isinstance(result, Response)
    return result


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8080", "LocalHost", "127.0.0.1:8080", "127.0.0.2", "[::1]:8080"])
def test_program_on_this_machine_is_allowed(client: str, host: str) -> None:
    assert ask(client, Host=host, User_Agent="Boto3/1", Authorization="AWS4-HMAC-SHA256 ...", **SENT).status == 200


@pytest.mark.parametrize("client", ["10.0.0.7", "192.168.1.2", "fe80::1", "::ffff:10.0.0.1", "", "localhost"])
def test_client_of_another_machine_is_rejected(client: str) -> None:
    assert ask(client, Host="localhost").status == 403


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Host": "attacker.example:8080"}, "attacker.example"),
        ({"Host": "localhost.attacker.example"}, "localhost.attacker.example"),
        ({"Host": "127.0.0.1.nip.io"}, "127.0.0.1.nip.io"),
        ({"Host": "localhost", "Origin": "http://localhost:8080"}, "Origin"),
        ({"Host": "localhost", "origin": "null"}, "origin"),
        ({"Host": "localhost", "Sec_Fetch_Site": "cross-site"}, "Sec-Fetch-Site"),
        ({"Host": "localhost", "X_Forwarded_For": "10.0.0.7"}, "X-Forwarded-For"),
        ({"Host": "localhost", "Forwarded": "for=10.0.0.7"}, "Forwarded"),
        *(
            ({"Host": "localhost", name: "x"}, name.replace("_", "-"))
            for name in (
                *("Via", "X_Forwarded_Host", "X_Forwarded_Proto", "X_Forwarded_Server", "X_Forwarded", "X_Real_IP"),
                *("X_Client_IP", "X_Original_URI", "X_Original_Forwarded_For", "X_Envoy_External_Address", "CF_Ray"),
                *("CF_Connecting_IP", "True_Client_IP", "X_Cluster_Client_IP", "Fastly_Client_IP", "Fly_Client_IP"),
                *(
                    "X_Amzn_Trace_Id",
                    "CloudFront_Viewer_Address",
                    "X_Azure_ClientIP",
                    "X_Cloud_Trace_Context",
                    "CDN_Loop",
                ),
                *(
                    "X_Cloud_Trace_Context",
                    "Proxy_Connection",
                    "X_ProxyUser_Ip",
                    "WL_Proxy_Client_IP",
                    "X_Request_Start",
                    "Max_Forwards",
                ),
                *("Tailscale_User_Login", "Front_End_Https", "X_ARR_SSL", "X_Appengine_User_IP", "Client_IP"),
                *("X_AppGW_Trace_Id", "X_Railway_Request_Id", "X_GitHub_Codespaces", "Cdn_Src_Ip", "X_Http_Via"),
                # RFC 9440, Heroku's router, Authelia, Kong, Azure App Service, Linkerd, Cloud Foundry, CDNs
                *("Client_Cert", "X_Heroku_Queue_Wait_Time", "Remote_User", "X_Kong_Request_Id", "X_Consumer_Username"),
                *(
                    "X_MS_Client_Principal",
                    "l5d_client_id",
                    "X_CF_ApplicationID",
                    "X_Sl_Ip",
                    "RemoteIP",
                    "X_Visitor_IP",
                ),
            )
        ),
    ],
)
def test_browser_or_proxy_is_rejected_with_the_reason(headers: dict[str, str], says: str) -> None:
    response = ask("127.0.0.1", **headers)

    assert response.status == 403
    assert ("x-amzn-ErrorType", "AccessDeniedException") in response.headers
    assert says in json.loads(response.body)["message"]
