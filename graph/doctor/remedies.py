"""What to set, and where, for each fault that the doctor finds."""

from __future__ import annotations

from collections.abc import Mapping

AWAY = (
    "The proxy does not reach Darkroom. See whether Darkroom runs, and whether the proxy passes requests to its "
    "DARKROOM_HOST and DARKROOM_PORT."
)
BODY = (
    "Let larger requests through: 1 MiB to /graphql, 64 MiB to /callbacks. nginx: `client_max_body_size 64m;`; "
    "Traefik: `maxRequestBodyBytes` of the middleware `buffering`; Caddy: `request_body`."
)
BUFFERED = (
    "The proxy collects the answer instead of passing it on. nginx: `proxy_buffering off;`, and no "
    "`proxy_ignore_headers X-Accel-Buffering`; Traefik: no middleware `buffering`; Caddy: `flush_interval -1`."
)
COMPRESSED = (
    "Do not compress `text/event-stream`. nginx: leave it out of `gzip_types`; Traefik: `excludedContentTypes` of the "
    "middleware `compress`; Caddy: `encode { match { header Content-Type … } }`."
)
FORWARDED = (
    "Set DARKROOM_PUBLIC_URL={url}. Or let the proxy pass on what was asked for (nginx: `proxy_set_header Host "
    "$http_host; proxy_set_header X-Forwarded-Proto $scheme;`), and if it is on another machine, let Darkroom believe "
    "it: FORWARDED_ALLOW_IPS=<the proxy's address>."
)
IDLE = (
    "The proxy cuts a connection on which nothing was said for a while. Let it wait for longer than "
    "DARKROOM_PING_SECONDS (20), or lower that. nginx: `proxy_read_timeout 60s;`; HAProxy: `timeout tunnel`, `timeout "
    "server`; load balancers: the idle time-out."
)
LOGIN = "Something in front of Darkroom asks for a login. Put it into the address: https://user:password@…"
LOOP = (
    "Something in front of Darkroom sends clients round in a circle. That is often a proxy that redirects http to "
    "https behind another one that has TLS already: let it trust `X-Forwarded-Proto`, or redirect at one of them only."
)
ORIGIN = (
    "Pass the host on (nginx: `proxy_set_header Host $http_host;`), or pages that come from here may not open a "
    "websocket; pages from elsewhere need DARKROOM_ALLOWED_ORIGINS."
)
ROUTE = "Something else answers here. Pass /graphql, /images, /callbacks, /static and /healthz on to Darkroom."
REFUSED_LOGIN = (
    "Something in front of Darkroom refused the login in the address. Look for a mistake in the user or the password; "
    "letters such as @ : / # are written with %, like %40."
)
SILENT = (
    "Something accepts the connection and says nothing. See whether Darkroom and its database run, whether the proxy "
    "reaches it, and whether this port speaks TLS (https://)."
)
SUBPROTOCOL = "Let the header Sec-WebSocket-Protocol through, both ways; it says `graphql-transport-ws`."
UPGRADE = (
    "Pass the upgrade on. nginx: `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header "
    "Connection $connection_upgrade;`"
)
BY_STATUS: Mapping[int, str] = {
    401: LOGIN,
    403: "Something in front of Darkroom does not let you in.",
    413: BODY,
    429: "All clients look like one. Pass their addresses on: `X-Forwarded-For`.",
    502: AWAY,
    503: AWAY,
    504: AWAY,
}
