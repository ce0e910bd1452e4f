"""The environment, read in one place and checked when a function starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refit.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    table: str
    data_bucket: str
    store_bucket: str
    event_bus: str
    stack: str
    models_dir: Path
    max_upload_mb: int
    state_machine: str = ""  # of the functions that start it and look after it
    intake_queue: str = ""  # of those that send to it, or put its messages off
    sweep_minutes: int = 15

    @staticmethod
    def from_env(env: Mapping[str, str] = os.environ) -> Settings:
        """Raises ConfigError naming the variable and what it should be."""

        def need(name: str) -> str:
            value = env.get(name, "")
            if not value:
                raise ConfigError(
                    f"environment variable {name} is not set; template.yaml sets it for every function"
                )
            return value

        def number(name: str, default: str, least: int) -> int:
            value = env.get(name, default)
            if not value.isdecimal() or int(value) < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
            return int(value)

        return Settings(
            table=need("REFIT_TABLE"),
            data_bucket=need("REFIT_DATA_BUCKET"),
            store_bucket=need("REFIT_STORE_BUCKET"),
            event_bus=need("REFIT_EVENT_BUS"),
            stack=need("REFIT_STACK"),
            models_dir=Path(env["REFIT_MODELS_DIR"]) if env.get("REFIT_MODELS_DIR") else _models_layer(),
            max_upload_mb=number("REFIT_MAX_UPLOAD_MB", "1024", 1),
            state_machine=env.get("REFIT_STATE_MACHINE", ""),
            intake_queue=env.get("REFIT_INTAKE_QUEUE", ""),
            sweep_minutes=number("REFIT_SWEEP_MINUTES", "15", 0),
        )


def _models_layer() -> Path:
    """Where the models layer lies: the folder refit_models on the module path, whatever its root is."""
    import importlib.util

    found = importlib.util.find_spec("refit_models")
    places = list(found.submodule_search_locations or []) if found else []
    if not places:
        raise ConfigError("no models are deployed: the models layer (refit_models) is not on the module path")
    return Path(places[0])
