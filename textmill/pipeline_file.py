"""A compiled pipeline's YAML: its name, tasks and parameters, and the check of what a user gives for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from textmill.errors import InputError, SettingsError
from textmill.settings import unknown_name

PACKAGE = Path(__file__).parent
RECIPES = (PACKAGE / "recipes", PACKAGE.parent / "pipelines" / "compiled")  # in a wheel, in a checkout

NO_IMAGE = (
    "@sha256:" + 64 * "0"
)  # the end of an image's address until images are pushed (images/digests.json)
FOR_A_CLUSTER = ("image", "train_")  # parameters that are listed last: on one machine they mean nothing

KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "STRING": ("text", (str,)),
    "NUMBER_INTEGER": ("a whole number", (int,)),
    "NUMBER_DOUBLE": ("a number", (int, float)),
    "BOOLEAN": ("true or false", (bool,)),
    "LIST": ("a list", (list,)),
    "STRUCT": ("a mapping", (dict,)),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a pipeline; `kind` is KFP's name of its type."""

    name: str
    kind: str
    default: Any
    required: bool
    help: str

    def cast(self, value: Any) -> Any:
        """`value`, or what it says where it is a text. Raises SettingsError."""
        wanted, types = KINDS[self.kind]
        given = value
        if isinstance(value, str) and self.kind != "STRING":
            given = _from_text(value)
        if self.kind == "STRING" and isinstance(value, int) and not isinstance(value, bool):
            given = str(value)
        if self.kind == "NUMBER_INTEGER" and isinstance(given, float) and given.is_integer():
            given = int(given)
        if self.kind == "NUMBER_DOUBLE" and isinstance(given, str):
            given = _float(given)
        if not isinstance(given, types) or (isinstance(given, bool) and self.kind != "BOOLEAN"):
            raise SettingsError(f"parameter {self.name!r} is {value!r}, which is not {wanted}.")
        return float(given) if self.kind == "NUMBER_DOUBLE" else given  # type: ignore[arg-type]


@dataclass(frozen=True)
class PipelineFile:
    """A compiled pipeline, read."""

    path: Path
    name: str
    description: str
    tasks: list[str]  # those that run under a condition by their own names
    parameters: dict[str, Parameter]
    loops: list[str]  # those of the tasks that are loops over items

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given parameters, checked and of the right types. Raises SettingsError naming the first that is wrong."""
        for name in given:
            if name not in self.parameters:
                raise SettingsError(unknown_name("parameter", name, self.parameters, f"pipeline {self.name}"))
        missing = [p.name for p in self.parameters.values() if p.required and p.name not in given]
        if missing:
            raise SettingsError(
                f"pipeline {self.name} wants a value for {', '.join(missing)}: --param {missing[0]}=…"
            )
        return {name: self.parameters[name].cast(value) for name, value in given.items()}

    def unpushed(self, arguments: Mapping[str, Any]) -> list[str]:
        """The parameters that name an image which was never pushed, with these arguments."""
        values = {name: arguments.get(name, p.default) for name, p in self.parameters.items()}
        return [name for name, value in values.items() if str(value).endswith(NO_IMAGE)]

    def describe(self) -> str:
        """The pipeline's parameters for a person to read."""
        lines = [f"{self.name}: {', '.join(self.tasks)}", self.description, ""]
        ordered = sorted(
            self.parameters.values(), key=lambda p: (p.name.startswith(FOR_A_CLUSTER), not p.required)
        )
        for parameter in ordered:
            default = "(wanted)" if parameter.required else f"[{parameter.default}]"
            lines += [f"  {parameter.name} {default}", f"      {parameter.help}"]
        return "\n".join(lines)


def find_pipeline(pipeline: str | Path) -> Path:
    """A path to a YAML file, or the name of a recipe that comes with textmill. Raises InputError."""
    path = Path(pipeline)
    if path.is_file():
        return path
    recipes = {p.stem: p for folder in RECIPES if folder.is_dir() for p in sorted(folder.glob("*.yaml"))}
    if str(pipeline) in recipes:
        return recipes[str(pipeline)]
    if path.suffix in (".yaml", ".yml") or "/" in str(pipeline):
        raise InputError(f"there is no pipeline at {pipeline}: no such file.")
    raise InputError(unknown_name("recipe", str(pipeline), recipes))


def read_pipeline(pipeline: str | Path) -> PipelineFile:
    """Read a compiled pipeline. Raises InputError for a file that is none."""
    path = find_pipeline(pipeline)
    try:
        spec = next(yaml.load_all(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        name, root = spec["pipelineInfo"]["name"], spec["root"]
        tasks = list(root["dag"]["tasks"])
        inputs = root.get("inputDefinitions", {}).get("parameters", {})
    except (OSError, StopIteration, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path} is not a compiled pipeline; compile it with: kfp dsl compile --py … --output …"
        ) from None
    if spec.get("components", {}).keys() == {f"comp-{name}"} and len(tasks) == 1:
        raise InputError(f"{path} is a single component; a pipeline is wanted here.")
    parameters = {key: _parameter(key, value) for key, value in inputs.items()}
    description = str(spec["pipelineInfo"].get("description", "")).split("\n\n")[0]
    order = _in_order(root["dag"]["tasks"])
    loops = [
        task
        for task in order
        if {"parameterIterator", "artifactIterator"} & root["dag"]["tasks"][task].keys()
    ]
    shown = [each for task in order for each in _by_name(task, spec)]
    return PipelineFile(path, name, " ".join(description.split()), shown, parameters, loops)


def _parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    optional = spec.get("isOptional", False) or "defaultValue" in spec
    help = " ".join(str(spec.get("description", "")).split())
    kind, default = spec["parameterType"], spec.get("defaultValue")
    if kind == "NUMBER_INTEGER" and default is not None:
        default = int(default)  # the file has every number as a float
    return Parameter(name, kind, default, not optional, help)


def _by_name(task: str, spec: Mapping[str, Any]) -> list[str]:
    """The task; those of a condition, which KFP has as one task condition-1."""
    about = spec["root"]["dag"]["tasks"][task]
    if "triggerPolicy" not in about:
        return [task]
    return _in_order(spec["components"][about["componentRef"]["name"]]["dag"]["tasks"])


def _in_order(tasks: Mapping[str, Any]) -> list[str]:
    """Tasks after what they depend on; otherwise by name."""
    order: list[str] = []
    while left := [name for name in tasks if name not in order]:
        ready = [name for name in left if set(tasks[name].get("dependentTasks", [])) <= set(order)]
        order.append((ready or left)[0])
    return order


def _from_text(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _float(value: str) -> Any:
    try:
        return float(value)  # YAML reads 1e-3 as text
    except ValueError:
        return value
