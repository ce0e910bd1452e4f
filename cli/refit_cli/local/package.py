"""Pack what the template names, the way `sam build` and `sam package` would, for the local engine."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from refit_cli.local.errors import PackageFailed

Upload = Callable[[bytes], dict[str, str]]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags, read into their long forms."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


def read_template(path: Path) -> dict[str, Any]:
    """The template as plain data, short tags such as `!Ref` written out."""
    try:
        template = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise PackageFailed(f"Cannot read the template {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise PackageFailed(f"{path} is not valid YAML: {error}") from error
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise PackageFailed(f"{path} is not a CloudFormation template: it has no Resources.")
    return template


def package(template_path: Path, *, models: Path, build_dir: Path, upload: Upload) -> dict[str, Any]:
    """Pack functions, layers and state machines and return the template that names the packed ones.

    Parameters
    ----------
    template_path : the project's own template.yaml; paths in it are relative to its folder
    models : folder whose sub-folders are the models; the models layer is built from it
    build_dir : existing scratch folder
    upload : stores bytes and returns where, as {"Bucket": ..., "Key": ...}

    Raises PackageFailed.
    """
    template = read_template(template_path)
    root = template_path.parent
    shared = template.get("Globals", {}).get("Function", {})
    common_code = shared.pop("CodeUri", None)
    uploaded: dict[Path, dict[str, str]] = {}
    for logical_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        match resource.get("Type"):
            case "AWS::Serverless::Function":
                folder = root / properties.get("CodeUri", common_code)
                if folder not in uploaded:
                    uploaded[folder] = upload(_zip_code(folder))
                properties["CodeUri"] = uploaded[folder]
            case "AWS::Serverless::LayerVersion":
                folder = root / properties["ContentUri"]
                properties["ContentUri"] = upload(_zip_layer(logical_id, folder, models, build_dir))
            case "AWS::Serverless::StateMachine" if "DefinitionUri" in properties:
                source = root / properties.pop("DefinitionUri")
                properties["Definition"] = _read_definition(source)
    return template


def _read_definition(source: Path) -> Any:
    try:
        return yaml.safe_load(source.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, yaml.YAMLError) as error:
        raise PackageFailed(f"Cannot read the state machine {source}: {error}") from error


def _zip_code(folder: Path) -> bytes:
    files = sorted(folder.rglob("*.py"))
    if not files:
        raise PackageFailed(f"{folder} holds no Python files, but the template says the functions are there.")
    return _zip(folder, files)


def _zip_layer(logical_id: str, folder: Path, models: Path, build_dir: Path) -> bytes:
    if not folder.is_dir():
        raise PackageFailed(f"{folder}, the folder of {logical_id}, does not exist.")
    if (folder / "requirements.txt").exists():
        # Native packages for Lambda's Python; the local workers have this environment's own, at the same versions.
        return _zip(folder, [])
    target = build_dir / logical_id
    target.mkdir(parents=True, exist_ok=True)
    command = ["make", "--silent", "-C", str(folder), f"build-{logical_id}"]
    command += [f"ARTIFACTS_DIR={target}", "BYTECODE=0"]
    # An outer `make demo` would hand its options and job slots down to this one.
    theirs = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GNUMAKEFLAGS", "MAKEFILES")
    environment = {k: v for k, v in os.environ.items() if k not in theirs}
    environment["REFIT_MODELS_DIR"] = str(models.resolve())
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PackageFailed("`make` is needed to pack the layers, and is not installed.") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise PackageFailed(f"Packing {logical_id} from {folder} failed:\n{said}")
    return _zip(target, sorted(p for p in target.rglob("*") if p.is_file()))


def _zip(folder: Path, files: Iterable[Path]) -> bytes:
    """A zip that depends on nothing but names and contents, so that the same code keeps the same key."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            if "__pycache__" in file.parts:
                continue
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()
