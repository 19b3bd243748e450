"""The start command of an app that names none: a server for the application that its modules make."""

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.buildpacks.common.steps import Failure, text_of
else:  # neighbours, where the buildpack runs
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from steps import Failure, text_of

__all__ = ["default_command"]

_CANDIDATES = ("main.py", "app.py", "wsgi.py", "asgi.py", "server.py", "application.py")
_PACKAGES = ("app", "src", "api")
"""Directories that are looked into when the top has no application."""
_ASGI = frozenset({"FastAPI", "Starlette", "Quart", "Litestar", "Sanic", "get_asgi_application"})
_WSGI = frozenset({"Flask", "Bottle", "get_wsgi_application", "App", "default_app"})
_FACTORIES = ("create_app", "make_app")


def default_command(build: Path, own: Path, index: str) -> str:
    """The command, empty when nothing can be found. `own` is deps/<index>, where servers were installed."""
    if (build / "manage.py").is_file():
        for directory in sorted(path for path in build.iterdir() if path.is_dir()):
            for kind in ("asgi", "wsgi"):
                fits = kind == "wsgi" or _asgi_server(own)
                if (directory / f"{kind}.py").is_file() and fits:
                    return _server(own, index, kind, f"{directory.name}.{kind}:application")
    scripts = []
    for module in (*_CANDIDATES, *(f"{package}/{name}" for package in _PACKAGES for name in _CANDIDATES)):
        text = text_of(build / module)
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        if found := _application(tree):
            kind, name = found
            return _server(own, index, kind, f"{module.removesuffix('.py').replace('/', '.')}:{name}")
        if text and "/" not in module and ("__main__" in text or module in ("main.py", "app.py", "server.py")):
            scripts.append(module)
    return f"exec python {scripts[0]}" if scripts else ""


def _application(tree: ast.Module) -> tuple[str, str] | None:
    """Kind and name of a module's application.

    That is a variable made by a known framework, `application(environ, start_response)`, an async function of three
    arguments, or a factory without arguments in a module that imports a known framework.
    """
    factory = None
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(node.value, ast.Call) and isinstance(target, ast.Name):
                function = node.value.func
                called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                if called in _ASGI | _WSGI:
                    return ("asgi" if called in _ASGI else "wsgi"), target.id
                if called in _FACTORIES and target.id in ("app", "application"):
                    return _framework(tree), target.id
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count = len(node.args.args)
            if node.name in ("app", "application"):
                if isinstance(node, ast.AsyncFunctionDef) and count == 3:
                    return "asgi", node.name
                if isinstance(node, ast.FunctionDef) and count == 2:
                    return "wsgi", node.name
            if node.name in _FACTORIES and count == len(node.args.defaults) and isinstance(node, ast.FunctionDef):
                factory = f"{node.name}()"
    return (_framework(tree), factory) if factory else None


def _framework(tree: ast.Module) -> str:
    names = {
        alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
    }
    return "asgi" if names & _ASGI else "wsgi"


def _has(own: Path, program: str) -> bool:
    return (own / "bin" / program).is_file()


def _asgi_server(own: Path) -> bool:
    return any(_has(own, name) for name in ("uvicorn", "hypercorn", "daphne"))


def _server(own: Path, index: str, kind: str, name: str) -> str:
    quoted = f"'{name}'" if "(" in name else name
    factory = " --factory" if kind == "asgi" and "(" in name else ""
    if kind == "asgi":
        if _has(own, "uvicorn"):
            return f"exec uvicorn --host 0.0.0.0 --port $PORT{factory} {name.removesuffix('()')}"
        if _has(own, "hypercorn"):
            return f"exec hypercorn --bind 0.0.0.0:$PORT {quoted}"
        if _has(own, "daphne") and not factory:
            return f"exec daphne -b 0.0.0.0 -p $PORT {name}"
        raise Failure(
            f"{name} is an ASGI application, but no server for it is installed: add uvicorn to the app's requirements"
        )
    if _has(own, "gunicorn"):
        return f"exec gunicorn --bind 0.0.0.0:$PORT {quoted}"
    if _has(own, "waitress-serve"):
        call = " --call" if "(" in name else ""
        return f"exec waitress-serve --listen=0.0.0.0:$PORT{call} {name.removesuffix('()')}"
    return f'exec python "$DEPS_DIR/{index}/serve.py" {quoted}'
