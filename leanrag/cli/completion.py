"""`leanrag completion`: print the script by which a shell completes commands, options and names of models."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, print_text

__all__ = ["register"]

_MODELS = frozenset({"model", "embedder", "names", "name"})
"""Destinations of options and arguments whose values are names of models."""

_BASH = """\
_leanrag() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words=
    if ((COMP_CWORD == 1)); then
        words="{commands} --help --version"
    else
        case "$command $previous" in
{values}
            *)
                case "$command $current" in
{options}
                esac;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o bashdefault -o default -F _leanrag leanrag
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True, slots=True)
class _Option:
    """An option, or the arguments of a command, which have no flags.

    Attributes:
        flags: Such as "--folder".
        about: The help text.
        takes_value: Whether a value follows.
        values: The values that are known.
    """

    flags: tuple[str, ...]
    about: str
    takes_value: bool
    values: tuple[str, ...]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "completion",
        functools.partial(_run, commands),
        commands.common,
        'print a script that completes commands in a shell: eval "$(leanrag completion bash)"',
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _run(commands: Commands, options: argparse.Namespace) -> int:
    tree = {name: tuple(_options_of(parser)) for name, parser in commands.parsers.choices.items()}
    about = {name: parser.description or "" for name, parser in commands.parsers.choices.items()}
    scripts = {"bash": _bash(tree), "zsh": _ZSH + _bash(tree), "fish": _fish(tree, about)}
    print_text(scripts[options.shell].rstrip("\n"))
    return OK


def _options_of(parser: argparse.ArgumentParser) -> Iterator[_Option]:
    from leanrag.models import REGISTRY

    for action in parser._actions:  # argparse has no public way to list them
        values = tuple(map(str, action.choices or (REGISTRY if action.dest in _MODELS else ())))
        about = (action.help or "") % vars(action)
        yield _Option(tuple(action.option_strings), about, action.nargs != 0, values)


def _bash(tree: Mapping[str, tuple[_Option, ...]]) -> str:
    values, flags = [], []
    for command, options in tree.items():
        for option in options:
            if option.flags and option.takes_value:
                patterns = "|".join(f'"{command} {flag}"' for flag in option.flags)
                values.append(f'            {patterns}) words="{" ".join(option.values)}";;')
        names = " ".join(flag for option in options for flag in option.flags)
        arguments = " ".join(value for option in options if not option.flags for value in option.values)
        flags.append(f'                    "{command} -"*) words="{names}";;')
        flags.append(f'                    "{command} "*) words="{arguments}";;')
    return _BASH.format(commands=" ".join(tree), values="\n".join(values), options="\n".join(flags))


def _fish(tree: Mapping[str, tuple[_Option, ...]], about: Mapping[str, str]) -> str:
    lines = []
    for command, options in tree.items():
        lines.append(f"complete -c leanrag -n __fish_use_subcommand -f -a {command} -d {_quote(about[command])}")
        for option in options:
            parts = [f"complete -c leanrag -n '__fish_seen_subcommand_from {command}'"]
            parts += [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
            parts += ["-r"] if option.flags and option.takes_value else []
            parts += [f"-a {_quote(' '.join(option.values))}"] if option.values else []
            if len(parts) > 1:
                lines.append(" ".join([*parts, f"-d {_quote(option.about)}"]))
    return "\n".join(lines)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
