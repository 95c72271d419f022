"""Typed settings of a run: what a notebook's parameters and a profile say together.

A notebook's first call is `run = settings(globals(), Knobs)`: it refuses every name and every value that it does not
know, with the valid ones named, so that a mistyped parameter never runs with a default in its place.
"""

import ast
import re
import symtable
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from compatlib.data import folders, sources
from compatlib.data.features import SOURCES, WEIGHTS
from compatlib.models.resnet import HEADS
from compatlib.training import Recipe

PROFILES_FOLDER = Path(__file__).parent / "profiles"
_NOTEBOOK_NAMES = {"In", "Out", "exit", "quit"}
_INJECTED = "# Parameters\n"  # with which papermill begins the cell that it adds


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Strict):
    """A backbone: `small_resnet` by `widths`, one of torchvision's ResNets by `torchvision`, or a head by `hidden`.

    hidden: size of the hidden layer of a head on an encoder that nobody trains.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    stem_stride: int = 1
    dim: int = 128
    head: Literal[HEADS] = "relu_pool"
    torchvision: str | None = None
    hidden: int | None = Field(None, ge=1)


class Training(_Strict):
    """The recipe's values as a profile gives them; `compatlib.training.Recipe` checks their ranges.

    logits: whether a classifier's products are taken under autocast, as everything else, or in float32.
    """

    model_config = ConfigDict(allow_inf_nan=False)  # which no comparison with a range refuses

    epochs: int
    batch_size: int = 128
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    warmup_epochs: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    warmup_from_zero: bool = True
    nesterov: bool = True
    warmup_steps: int = 0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    logits: Literal["autocast", "float32"] = "autocast"

    def recipe(self) -> Recipe:
        """The recipe of the training loop."""
        return Recipe(**self.model_dump(exclude={"label_smoothing", "logits"}))


class Knobs(_Strict):
    """A chapter's own parameters; a chapter subclasses it.

    chapter: whose values in a profile's `knobs` stand before the defaults here; "" for none.
    """

    chapter: ClassVar[str] = ""


class TableKnobs(Knobs):
    """Parameters of a chapter of several tables, of which a page may measure some only.

    all_tables: their names; the first is always measured. tables_of: by profile, those that it measures where the page
    names none; all where it is not listed. tables: such as "B1,B3".
    """

    all_tables: ClassVar[tuple[str, ...]] = ()
    tables_of: ClassVar[dict[str, tuple[str, ...]]] = {}
    tables: str = ""

    @field_validator("tables")
    @classmethod
    def _known(cls, tables: str) -> str:
        unknown = [name for name in tables.split(",") if name.strip() not in ("", *cls.all_tables)]
        if unknown:
            raise ValueError(f"unknown table {unknown}; choose from {', '.join(cls.all_tables)}")
        return tables


class Encoders(_Strict):
    """On which encoder's features the heads of old and of new roles stand."""

    old: Literal[tuple(WEIGHTS)]
    new: Literal[tuple(WEIGHTS)]


class MethodKnobs(TableKnobs):
    """Parameters of a chapter that may measure some of its methods only, where all would take too long.

    all_methods: their names. methods: those that are measured, in any order; all where it is empty.
    """

    all_methods: ClassVar[tuple[str, ...]] = ()
    methods: tuple[str, ...] = ()

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in methods if name not in cls.all_methods]
        if unknown:
            raise ValueError(f"unknown method {unknown}; choose from {'; '.join(cls.all_methods)}")
        return methods


class Settings(_Strict):
    """Everything a run depends on: profile, data set, seeds, sizes, network and recipe.

    A `validation` run trains on nine tenths of the training images and tests on the held-out tenth: for tuning.

    draw: which classes are the old ones: 0 leaves the data set's own order, of which they are the first, every other
    number is an order of its own. encoders: of a data set of features, by `old` and `new` the encoder on which heads
    of these roles stand. noise: with which features are augmented, in deviations.
    published_seeds: those whose models a reader gets with the rows; published_models: which models, by name; None for
    all. No result depends on them.
    """

    profile: str
    dataset: str
    seeds: tuple[int, ...]
    sweep_seeds: tuple[int, ...]
    classes: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    image_size: int = 32
    network: Network
    small_network: Network
    training: Training
    validation: bool = False
    draw: int = Field(0, ge=0)
    encoders: Encoders | None = None
    noise: float = Field(0.3, ge=0, allow_inf_nan=False)
    published_seeds: tuple[int, ...] | None = None
    published_models: tuple[str, ...] | None = None
    knobs: SerializeAsAny[Knobs] = Field(default_factory=Knobs)  # a chapter's own are written out too

    @field_validator("seeds", "sweep_seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError(f"seeds must be different whole numbers ≥ 0, at least one; got {seeds}")
        return seeds

    @model_validator(mode="after")
    def _heads_on_features(self) -> Self:
        has_features, networks = self.dataset in SOURCES, (self.network, self.small_network)
        if has_features and self.encoders and all(network.hidden for network in networks):
            return self
        if has_features or self.encoders or any(network.hidden for network in networks):
            raise ValueError(
                f"profile {self.profile!r} with data set {self.dataset!r}: heads stand on features of images, networks "
                f"on images. Data sets of features are {', '.join(SOURCES)}; their profiles name `encoders` and "
                "`hidden` of both networks"
            )
        return self


def tables(run: Settings) -> tuple[str, ...]:
    """The tables that a run of a chapter with `TableKnobs` measures, in the chapter's order."""
    names = run.knobs.all_tables
    chosen = tuple(name.strip() for name in run.knobs.tables.split(",") if name.strip())
    chosen = chosen or run.knobs.tables_of.get(run.profile, names)
    return tuple(name for name in names if name == names[0] or name in chosen)


def methods(run: Settings) -> tuple[str, ...]:
    """The methods that a run of a chapter with `MethodKnobs` measures, in the chapter's order."""
    return tuple(name for name in run.knobs.all_methods if not run.knobs.methods or name in run.knobs.methods)


def changed(run: Settings, changes: Mapping[str, Any]) -> Settings:
    """The run with other values, by dotted name such as "knobs.views" or "training.epochs".

    Raises:
        ValueError: the run has no value of this name, or the new one is impossible.
    """
    for name, value in changes.items():
        value_of(run, name)
        run = _with_value(run, name.split("."), value)
    return run


def value_of(run: Settings, name: str) -> Any:
    """What the run has under a dotted name.

    Raises:
        ValueError: the run has no value of this name.
    """
    value: Any = run
    for part in name.split("."):
        if part not in getattr(type(value), "model_fields", ()):
            raise ValueError(f"a run has no {name!r}: {type(value).__name__} has no {part!r}")
        value = getattr(value, part)
    return value


def _with_value(model: "Model", parts: list[str], value: Any) -> "Model":
    first, *rest = parts
    if rest:
        value = _with_value(getattr(model, first), rest, value)
    values = {field: getattr(model, field) for field in type(model).model_fields} | {first: value}
    return _validated(type(model), values, "setting")


KnobsType = TypeVar("KnobsType", bound=Knobs)
RUN_NAMES = ("profile", "dataset", "seeds")


def profiles() -> tuple[str, ...]:
    """Names of the profiles."""
    return tuple(path.stem for path in folders.visible(PROFILES_FOLDER.glob("*.yml")))


def settings(namespace: Mapping[str, Any], knobs: type[Knobs] = Knobs) -> Settings:
    """Settings from a notebook's `globals()`: its parameters over the profile's values.

    Args:
        namespace: holds `profile`, `dataset`, `seeds` (a list, or text such as "0,1,2") and the chapter's knobs; an
            empty value means the profile's, or the chapter's default where the profile has none. Modules, functions,
            classes and names with a leading underscore are not parameters, nor is what the notebook's cells have
            computed when the cell with this call is run again.
        knobs: the chapter's own parameters and their defaults.

    Raises:
        ValueError: an unknown parameter, profile or data set, or an impossible value; the valid ones are named.
    """
    given = _parameters(namespace)
    valid = (*RUN_NAMES, *knobs.model_fields)
    cells = _Cells(namespace.get("In", ()), valid)
    unknown = sorted(((set(given) - cells.computed) | cells.injected) - set(valid))
    if unknown:
        raise ValueError(
            f"unknown parameter {', '.join(map(repr, unknown))}; this page has {', '.join(valid)} (a name of your own "
            "must begin with an underscore, or be deleted before this cell)"
        )
    given = {name: value for name, value in given.items() if not _empty(value)}
    profile = load_profile(given.get("profile", "smoke"))
    dataset = given.get("dataset", profile["dataset"])
    _check_dataset(dataset, profile)
    # The sizes of a profile are those of its own data set; another one is taken whole.
    sizes = {} if dataset == profile["dataset"] else dict.fromkeys(("classes", "train_per_class", "test_per_class"))
    of_profile = profile.pop("knobs", {}).get(knobs.chapter, {})
    chosen = {name: given[name] for name in knobs.model_fields if name in given}
    chosen = {name: _merged(knobs, name, of_profile, chosen) for name in of_profile | chosen}
    content = {**profile, **sizes, "dataset": dataset, "knobs": _validated(knobs, chosen, "parameter")}
    if "seeds" in given:
        content["seeds"] = content["sweep_seeds"] = read_seeds(given["seeds"])
    return _validated(Settings, content, "setting")


def _check_dataset(dataset: Any, profile: Mapping[str, Any]) -> None:
    """Heads stand on a data set of features, all other networks on images."""
    on_features = bool(profile.get("encoders"))
    valid = tuple(SOURCES) if on_features else sources.image_names()
    if dataset not in valid and (on_features or not _is_folder(dataset)):
        others = "" if on_features else f", or a folder of images under {sources.data_root()}"
        hint = "" if isinstance(dataset, str) else "; a name is text, in quotes"
        if on_features or dataset in SOURCES:
            way_out = "heads on features; profiles smoke and study train on images" if on_features else "on images"
            hint += f" (profile {profile['profile']!r} trains {way_out})"
        raise ValueError(f"unknown data set {dataset!r}; choose one of {', '.join(valid)}{others}{hint}")


def _is_folder(dataset: Any) -> bool:
    """Whether there is a folder of this plain name under the data root; a path would break names of files and rows."""
    is_name = isinstance(dataset, str) and re.fullmatch(r"\w[\w.-]*", dataset)
    return bool(is_name) and (sources.data_root() / dataset).is_dir()


def load_profile(name: str) -> dict[str, Any]:
    """A profile's values, its own name included; those that it does not name are of the profile that it is `like`.

    Raises:
        ValueError: no such profile; the valid ones are named.
    """
    if name not in profiles():
        raise ValueError(f"unknown profile {name!r}; choose one of {', '.join(profiles())}")
    values = yaml.safe_load((PROFILES_FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    base = load_profile(values.pop("like")) if "like" in values else {}
    return base | values | {"profile": name}


def read_seeds(value: Any) -> tuple[int, ...]:
    """Seeds from a list, a single number, or text such as "0,1,2" or "[0, 1]".

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    numbers = r"\s*\d+(\s*,\s*\d+)*\s*,?\s*"
    if isinstance(value, str) and re.fullmatch(rf"{numbers}|\s*\[{numbers}\]\s*", value):
        return tuple(int(number) for number in re.findall(r"\d+", value))
    if isinstance(value, list | tuple) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in value):
        return tuple(value)
    raise ValueError(f"seeds {value!r} cannot be read; give a list such as [0, 1, 2] or text such as '0,1,2'")


def _merged(knobs: type[Knobs], name: str, *layers: Mapping[str, Any]) -> Any:
    """A knob's value of the last layer that has one; where the knob is a group of values, each value's own last."""
    values = [layer[name] for layer in layers if name in layer]
    default = knobs.model_fields[name].default if name in knobs.model_fields else None
    if isinstance(default, BaseModel) and all(isinstance(value, Mapping) for value in values):
        return {part: each for value in (default.model_dump(), *values) for part, each in value.items()}
    return values[-1]


def _parameters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values among a notebook's names; a kernel's own names are left out."""
    code = types.ModuleType | types.FunctionType | types.BuiltinFunctionType | types.MethodType | type | Settings
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _NOTEBOOK_NAMES and not isinstance(value, code)
    }


class _Cells:
    """What the cells that a notebook's kernel has run say of its names.

    injected: those that papermill has set, whatever they hold by now: an import may have taken a mistyped one's place.
    computed: those that were computed, last of all, by the cell which asks for the settings or a later one. A cell that
    sets a valid parameter is a cell of parameters, and a literal is a parameter wherever it stands.
    """

    def __init__(self, sources: Sequence[str], valid: Collection[str]):
        self.injected: set[str] = set()
        self.computed: set[str] = set()
        asked = False
        for source in sources:
            bound = _bound(source)
            asked = asked or "settings(" in source
            if source.startswith(_INJECTED):
                self.injected |= set(bound)
            own = not asked or not set(bound).isdisjoint(valid)
            computed = {name for name, is_literal in bound.items() if not own and not is_literal}
            self.computed = (self.computed - set(bound)) | computed


def _bound(source: str) -> dict[str, bool]:
    """Names that a cell binds, and whether to a literal, last of all; nothing of a cell that is no Python."""
    try:
        tree, symbols = ast.parse(source), symtable.symtable(source, "cell", "exec").get_symbols()
    except SyntaxError:
        return {}
    alone = _of_comprehensions_alone(tree)
    named = [each for each in symbols if each.is_imported() or each.is_namespace()]
    named += [each for each in symbols if each.is_assigned() and each.get_name() not in alone]
    bound = {each.get_name(): False for each in named}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            bound |= dict.fromkeys(names, _is_literal(statement.value))
    return bound


def _of_comprehensions_alone(tree: ast.AST) -> set[str]:
    """Variables of comprehensions alone; from Python 3.12 on a symbol table counts them as the cell's."""
    targets = [each.target for each in ast.walk(tree) if isinstance(each, ast.comprehension)]
    own = {name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    stored = {each for each in ast.walk(tree) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return {each.id for each in own} - {each.id for each in stored - own}


def _is_literal(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError):
        return False
    return True


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple) and len(value) == 0)


Model = TypeVar("Model", bound=BaseModel)


def _validated(model: type[Model], content: Mapping[str, Any], what: str) -> Model:
    try:
        return model(**content)
    except ValidationError as error:
        problems = "; ".join(
            f"{what} {'.'.join(map(str, problem['loc']))!r} = {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ValueError(problems) from None
