"""The requested host and the proxies of a request, read from its header fields."""

from __future__ import annotations

import re
from functools import lru_cache

PROXIES = re.compile(
    "|".join(
        (
            # RFC 7239, RFC 9110, and what nginx, Apache, HAProxy, Caddy, Traefik, Squid and Envoy add
            r"via|max-forwards|proxy-.*|forwarded(-.*)?|x-forwarded(-.*)?|x-forward-for|x-real-.*|x-original-.*",
            r"([a-z0-9]+-)*(client|real|remote|source|src|connecting|originating|origin|proxyuser)-?(ip|addr|host|port)",
            r"([a-z0-9]+-)+ip(-?addr(ess)?)?|[a-z0-9]+-(forwarded|real)-for|remote[-_](user|groups|email)|x-jupyter.*",
            r"x-remote-user|x-client-(user|cert|verify|dn|ssl|scheme)|client-cert(-chain)?|x-tls-.*|(x-)?z-forwarded-for",
            r"x-proxy-?.*|x-url-scheme|x-scheme|front-end-https|x-ssl-.*|ssl-client-.*|x-envoy-.*|x-forwardedhost",
            r"x-haproxy-.*|x-traefik-.*|x-varnish|x-squid-.*|x-bluecoat-.*|surrogate-capability|x-request-start",
            r"x-queue-start|x-cache.*|x-proxied-.*|x-nginx-.*|x-apache-.*|x-rewrite-url|x-host|x-server-.*",
            # CDNs, load balancers of cloud providers, tunnels
            r"cdn-loop|cf-.*|cloudfront-.*|x-amz-cf-id|x-amzn-(trace-id|oidc-.*|mtls-.*|tls-.*)|fastly-.*|x-fastly-.*",
            r"akamai-.*|x-akamai-.*|x-azure-.*|x-arr-.*|x-fd-.*|x-appengine-.*|x-cloud-trace-context|x-gfe-.*",
            r"x-goog-(iap|authenticated).*|fly-.*|x-vercel-.*|x-nf-.*|do-connecting-ip|x-oracle-.*|ali-cdn-.*|x-sucuri-.*",
            r"incap-.*|x-incap-.*|wl-proxy-.*|tailscale-.*|x-tailscale-.*|ngrok-.*|x-ngrok-.*|x-pomerium-.*|x-auth-request-.*",
            r"x-heroku-.*|connect-time|total-route-time|x-kong-.*|x-consumer-.*|x-authentik-.*|x-authenticated-user(id)?",
            r"x-webauth-user|x-ms-(proxy|forwarded|client-principal).*|disguised-host|x-waws-.*|l5d-.*|x-linkerd-.*",
            r"x-istio-.*|x-zscaler-.*|x-render-.*|rndr-id|x-koyeb-.*|x-zeabur-.*|x-replit-user-.*|x-codespaces-.*",
            r"x-devtunnel.*|x-localtunnel.*|teleport-.*|x-teleport-.*|x-amzn-(waf|apigateway|lattice)-.*|x-apigee.*",
            r"x-(iplb|sozu|zuul|stgw|qcloud|daa|nws|bunny|keycdn|qrator|gcore|imperva|citrix|fortigate|litespeed)-.*",
            r"sozu-id|section-io-.*|x-section-io-.*|x-ec-.*|x-via|x-cdn(-.*)?|eagleeye-.*|x-cf-.*|x-vcap-.*|x-script-name",
            r"x-anonymous-consumer|x-credential-identifier|gateway-(host|interface)|was-default-hostname|x-site-deployment-id",
            r"x-proxycontextpath|x-backend-server|x-load-balancer|x-upstream|x-served-by|x-rewritten-url|x-route-id",
            r"x-appgw-.*|x-railway-.*|x-github-codespaces|cdn-.*|x-http-via|x-coming-from|x-lb(-.*)?|x-edge-.*|x-sigsci-.*",
        )
    )
)
"""Headers that proxies add for a client on another machine."""


@lru_cache(maxsize=256)
def domain_of(host: str) -> tuple[str, str]:
    """Return a `Host` field's name without its port, and the name's first label: `api` for `api.example.com:8080`."""
    name = host
    if host.startswith("["):
        name = host.partition("]")[0][1:]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    return name, name.partition(".")[0]
