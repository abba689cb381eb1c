"""nginx, Traefik and Caddy as docs/deploy.md configures them, each as a child process in front of real nodes."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.process import free_port

REQUIRED = "TESTS_REQUIRE_PROXY"
DEPLOY = (Path(__file__).parent.parent / "docs/deploy.md").read_text()
HOST = "darkroom.example.com"
"""What the document calls the server."""
DOCUMENTED = ("127.0.0.1:8000", "127.0.0.1:8001")
"""Where its nodes are."""

# What Debian's packages have outside of the file that the document is about.
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/log; user {user} {group}; worker_processes 1;
events {{ worker_connections 768; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  include {folder}/darkroom.conf;
}}
"""
CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"


@dataclass(frozen=True)
class Certificate:
    """A self-signed one for 127.0.0.1."""

    file: Path
    key: Path


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs."""

    url: str
    websocket_url: str


def program(name: str) -> str:
    """Where a program is; without it the test is skipped, unless it must not be."""
    found = shutil.which(name)
    if found is None and os.environ.get(REQUIRED):
        pytest.fail(f"{name} is not installed, and {REQUIRED} is set")
    return found or pytest.skip(f"{name} is not installed")


def blocks(heading: str, language: str) -> list[str]:
    """The blocks of a language below a heading of docs/deploy.md."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", DEPLOY, re.M | re.S)
    assert section is not None, heading
    return re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.M | re.S)


def certify(folder: Path) -> Certificate:
    """Make a certificate, and make this process's own clients believe it through SSL_CERT_FILE."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = [program("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", made.key, "-out", made.file], check=True, capture_output=True)
    return made


@contextmanager
def nginx(folder: Path, nodes: Sequence[str], certificate: Certificate, text: str | None = None) -> Iterator[Proxy]:
    """nginx with `text`, by default the block of the document."""
    port = free_port()
    text = _filled(text or blocks("nginx", "nginx")[0], nodes, certificate)
    (folder / "darkroom.conf").write_text(_replaced(text, "listen 443", f"listen 127.0.0.1:{port}"))
    user = pwd.getpwuid(os.getuid())
    group = grp.getgrgid(user.pw_gid).gr_name
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user.pw_name, group=group))
    command: list[str | Path] = [program("nginx"), "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]
    with _running(folder, command, port, certificate) as proxy:
        yield proxy


@contextmanager
def traefik(folder: Path, nodes: Sequence[str], certificate: Certificate) -> Iterator[Proxy]:
    """Traefik with the two files of the document."""
    port = free_port()
    outer, inner = blocks("Traefik", "yaml")
    outer = _replaced(outer, '":443"', f'"127.0.0.1:{port}"')
    (folder / "traefik.yml").write_text(_replaced(outer, "/etc/traefik/darkroom.yml", str(folder / "darkroom.yml")))
    (folder / "darkroom.yml").write_text(_filled(_replaced(inner, HOST, "127.0.0.1"), nodes, certificate))
    with _running(folder, [program("traefik"), f"--configFile={folder}/traefik.yml"], port, certificate) as proxy:
        yield proxy


@contextmanager
def caddy(folder: Path, nodes: Sequence[str], certificate: Certificate, more: str = "") -> Iterator[Proxy]:
    """Caddy with the file of the document; it makes no certificate of its own here."""
    port = free_port()
    tls = f"\n\ttls {certificate.file} {certificate.key}\n{more}"
    text = _filled(blocks("Caddy", "caddyfile")[0], nodes, certificate)
    (folder / "Caddyfile").write_text(CADDY + _replaced(text, f"{HOST} {{", f"https://127.0.0.1:{port} {{{tls}"))
    with _running(folder, [program("caddy"), "run", "--config", folder / "Caddyfile"], port, certificate) as proxy:
        yield proxy


def _filled(text: str, nodes: Sequence[str], certificate: Certificate) -> str:
    for documented, node in zip(DOCUMENTED, nodes, strict=True):
        text = _replaced(text, documented, node)
    return text.replace("/etc/ssl/darkroom.pem", str(certificate.file)).replace(
        "/etc/ssl/darkroom.key", str(certificate.key)
    )


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"docs/deploy.md has no {old!r} any more"
    return text.replace(old, new)


@contextmanager
def _running(folder: Path, command: Sequence[str | Path], port: int, certificate: Certificate) -> Iterator[Proxy]:
    """A child process, from its first answer until the block ends."""
    log = folder / "output"
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | home, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 20
            while not _answers(f"https://127.0.0.1:{port}", certificate):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)  # no proxy says when it is ready
            yield Proxy(f"https://127.0.0.1:{port}", f"wss://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str, certificate: Certificate) -> bool:
    """Traefik listens before it knows its routes, and says 404 meanwhile."""
    try:
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate.file), trust_env=False) as client:
            return client.get(f"{url}/healthz").status_code != httpx.codes.NOT_FOUND
    except httpx.TransportError:
        return False
