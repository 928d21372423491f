"""The help of every command: what it shows, and that its examples are commands."""

import argparse
import json
import re
import shlex
import subprocess
import sys

import pytest

from ivmix.cli import main, parse, parser
from ivmix.cli.options import flag
from ivmix.pairs.description import EMBEDDED, PUBLIC, describe
from ivmix.samplers.options import OPTIONS, describe_samplers
from ivmix.samplers.reading import sampling

COMMANDS: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
)


def shown(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in command._actions if action.help != argparse.SUPPRESS]


def examples(command: str) -> list[list[str]]:
    """The command lines of a help's end, what is said beside them cut off."""
    text = re.sub(r"\\\n\s*", "", COMMANDS[command].epilog or "")  # a backslash continues a line
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line.startswith(f"ivmix {command}")]
    return [shlex.split(re.split(r"\s{3,}", line)[0])[1:] for line in lines]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_and_they_are_commands(command):
    found = examples(command)
    assert found
    for line in found:
        assert parse(line).command == command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_what_it_is_by_default(command):
    for action in shown(COMMANDS[command]):
        assert action.help
        if action.default not in (None, False, argparse.SUPPRESS):
            assert "default: " in action.help, action.option_strings


@pytest.mark.parametrize("command", COMMANDS)
def test_no_two_groups_of_options_have_one_name_but_for_a_letter(command):
    titles = [str(group.title).rstrip("s") for group in COMMANDS[command]._action_groups]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_but_for_examples(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out.split("\nexamples:\n")[0]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", ["compare", "evaluate", "bench"])
def test_models_in_place_of_the_pairs_are_named_but_not_explained_twice(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "`ivmix sample --help`" in text
    assert "--motion-norm" not in text
    assert parse([*examples(command)[0], "--motion-norm", "authors"]).motion_norm == "authors"


def test_every_flag_of_sampling_comes_from_a_declaration(capsys):
    (group,) = [group for group in COMMANDS["sample"]._action_groups if group.title == "sampling"]
    assert [a.option_strings for a in group._group_actions] == [[flag(name)] for name in ("sampler", *OPTIONS)]
    for action, option in zip(group._group_actions[1:], OPTIONS.values(), strict=True):
        assert action.help.startswith(option.help)
        assert all(choice in action.help for choice in option.choices or ())
        assert action.metavar == option.metavar
    assert main(["sample", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{name} +\S", text, re.M) for name in describe_samplers())
    assert "`ivmix pairs NAME`" in text


def test_the_help_of_sample_waits_for_no_torch():
    code = "import sys\nfrom ivmix.cli import main\nmain(['sample', '--help'])\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("pair", [*EMBEDDED, *PUBLIC])
def test_the_flags_that_pairs_shows_ask_for_what_is_drawn_without_them(pair, capsys):
    assert main(["pairs", pair]) == 0
    said = capsys.readouterr().out
    defaults = describe(pair)[0]["defaults"]
    assert f"Defaults: --sampler {defaults['sampler']} " in said
    columns = {line.index("--") for line in said.splitlines() if re.match(r"  \w+ +--", line)}
    assert len(columns) == 1
    for name in describe_samplers():
        (flags,) = re.findall(rf"^  {name} +(--.*)$", said, re.M)
        options = parse(["sample", "a prompt", "-o", "x.mp4", "--sampler", name, *shlex.split(flags)])
        given = {option: getattr(options, option) for option in ("sampler", *OPTIONS)}
        asked = sampling({"sampler": name, name: {}}, given)
        assert asked.to_dict() == sampling(defaults, {"sampler": name}).to_dict()


def test_what_a_strangers_pair_says_of_itself_commands_no_terminal(tmp_path, capsys):
    raw = json.loads((EMBEDDED["sprites"] / "pair.json").read_text())
    bad = "\x1b[2J"
    raw |= {"about": bad, "authors": bad, "licence": bad}
    raw["defaults"]["negative_prompt"] = bad
    (tmp_path / "pair.json").write_text(json.dumps(raw))
    assert main(["pairs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("\\x1b[2J") == 4
    assert "\x1b" not in said
