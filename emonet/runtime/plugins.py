"""Plug-ins: what other packages register as entry points (`emonet.corpora`, `emonet.encoders`, `emonet.scorers`).

Nothing is looked for until a name is used, and only the package that registers this name is imported.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from emonet.errors import EmonetError, RequestError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint  # 40 ms, which what names no plug-in can do without

Group = Literal["emonet.corpora", "emonet.encoders", "emonet.scorers"]
_KINDS: Mapping[Group, str] = MappingProxyType(
    {"emonet.corpora": "corpus", "emonet.encoders": "encoder", "emonet.scorers": "scorer"}
)
PLUGIN = "plugin:"  # begins the name of an encoder that a plug-in brings, where a captioner may stand as well
_GUIDE = "docs/plugins.md shows a whole one"


@dataclass(frozen=True)
class Plugin:
    """What an installed package registers under a name.

    Args:
        group: of its entry point.
        name: what it is asked for by.
        distribution: the package, as pip calls it.
        version: of the package.
        point: leads to the object.
    """

    group: Group
    name: str
    distribution: str
    version: str
    point: EntryPoint

    @property
    def package(self) -> str:
        """The distribution and its version, e.g. `emonet-toy 0.1`."""
        return f"{self.distribution} {self.version}"

    @property
    def label(self) -> str:
        """What messages call it, e.g. `encoder plug-in 'toy' (emonet-toy 0.1)`."""
        return f"{_KINDS[self.group]} plug-in {self.name!r} ({self.package})"

    def call(self, *arguments: object, **options: object) -> Any:
        """Import the package and call what it registers.

        Raises:
            RequestError: if it cannot be imported, does not take these arguments, or fails.
        """
        registered = self._load()
        self._check_signature(registered, arguments, options)
        with self.guarded(RequestError):
            return registered(*arguments, **options)

    def check(self, made: object, protocol: type) -> None:
        """See that what the plug-in made has all that a protocol names.

        Raises:
            RequestError: if something is missing; names it.
        """
        with self.guarded(RequestError):
            lacking = [name for name in _members(protocol) if not _has(made, name, protocol)]
        if lacking:
            raise self.refused(
                f"is no {protocol.__name__}",
                expected=f"an object with {', '.join(_members(protocol))}",
                found=f"{type(made).__name__} without {', '.join(lacking)}",
            )

    def refused(self, what: str, *, expected: object, found: object) -> RequestError:
        """The error of a plug-in that does not keep to its interface.

        Args:
            what: ends a sentence that begins with the plug-in.
            expected: by the interface.
            found: in its place.
        """
        return RequestError(
            f"the {self.label} {what}", where=self.point.value, expected=expected, found=found, hint=_GUIDE
        )

    @contextmanager
    def guarded(self, error_type: type[EmonetError] = EmonetError) -> Iterator[None]:
        """Name the plug-in in whatever goes wrong in its code; errors that emonet raises there pass.

        Args:
            error_type: of what is raised.

        Raises:
            EmonetError: or `error_type`, if its code fails.
        """
        try:
            yield
        except EmonetError:
            raise
        except (Exception, SystemExit) as error:
            raise error_type(
                f"the {self.label} failed",
                where=self.point.value,
                found=_reason(error),
                hint=f"the same command with --debug shows where; {self.distribution} is not a part of emonet",
            ) from error

    def _load(self) -> Any:
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:
            raise RequestError(
                f"the {self.label} cannot be imported",
                where=self.point.value,
                found=_reason(error),
                hint=f"install what it needs, another version of it, or pip uninstall {self.distribution}",
            ) from error

    def _check_signature(self, registered: Any, arguments: tuple[object, ...], options: Mapping[str, object]) -> None:
        wanted = ", ".join(["argument"] * len(arguments) + [f"{name}=..." for name in options])
        if not callable(registered):
            raise self.refused(
                "cannot be called", expected=f"a function or class that takes ({wanted})", found=registered
            )
        try:
            signature = inspect.signature(registered)
        except ValueError:  # of some built in C: the call itself tells
            return
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            raise self.refused(
                f"does not take what it is called with: {error}", expected=f"({wanted})", found=str(signature)
            ) from error


def installed_plugins(group: Group) -> dict[str, tuple[Plugin, ...]]:
    """The plug-ins of a group by name; several under one name come from several packages. Nothing is imported."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[Plugin, ...]] = {}
    for point in entry_points(group=group):
        name, version = (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "?")
        found[point.name] = (*found.get(point.name, ()), Plugin(group, point.name, name, version, point))
    return dict(sorted(found.items()))


def pick_plugin(name: str, group: Group, *, built_in: Collection[str] = ()) -> Plugin | None:
    """The plug-in of this name; None if there is none.

    Args:
        name: what was typed, without its argument.
        group: of the entry point.
        built_in: names that emonet has itself.

    Raises:
        RequestError: if several packages register it, or one registers a name that emonet has itself.
    """
    named = installed_plugins(group).get(name, ())
    if not named:
        return None
    packages = ", ".join(plugin.package for plugin in named)
    if name in built_in:
        raise RequestError(
            f"the {_KINDS[group]} {name!r} is emonet's own, but another package registers this name, too",
            where=named[0].point.value,
            found=packages,
            hint=f"pip uninstall {named[0].distribution}, or ask its authors for another name",
        )
    if len(named) > 1:
        raise RequestError(
            f"several packages register the {_KINDS[group]} {name!r}",
            expected="one of them",
            found=packages,
            hint=" or ".join(f"pip uninstall {plugin.distribution}" for plugin in named),
        )
    return named[0]


def require_plugin(name: str, group: Group) -> Plugin:
    """The plug-in of this name.

    Raises:
        RequestError: if there is none, or as in `pick_plugin`.
    """
    plugin = pick_plugin(name, group)
    if plugin is not None:
        return plugin
    there = installed_plugins(group)
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
    raise RequestError(
        f"no installed package registers the {_KINDS[group]} {name!r}",
        expected=f"an entry point of the group {group}",
        found=", ".join(f"{one} ({plugins[0].package})" for one, plugins in there.items()) or "no plug-in of this kind",
        hint=f"did you mean {near[0]}?" if near else "pip install the package that brings it, in this environment",
    )


def name_and_argument(text: str) -> tuple[str, str]:
    """Name and argument of `NAME[:ARGUMENT]`."""
    name, _, argument = text.partition(":")
    return name.strip(), argument


def _members(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


def _has(made: object, name: str, protocol: type) -> bool:
    value = getattr(made, name, None)
    return callable(value) if callable(vars(protocol)[name]) else value is not None


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
