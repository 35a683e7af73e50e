"""Commands in README and docs name scripts that are there and options that these take; nothing is trained."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
from functools import cache
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from doc_blocks import ROOT, blocks_of, commands_of
from torch.distributed.run import get_args_parser

from rarec_hf.training.arguments import AlignmentArguments, DataArguments, EncoderArguments, RARecTrainingArguments
from rarec_hf.training.command_line import parse_arguments

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
ENTRIES = r"(accelerate launch|torchrun|python3?) "
OF_TRAINING = ("train.py", "store_texts.py", "train_id_encoder.py")  # `parse_arguments` reads theirs


def commands() -> list[tuple[str, str]]:
    """(page, command): of shell blocks, and of code spans that begin like a command."""
    found = []
    for page in PAGES:
        lines = [part.strip() for line in commands_of(page) for part in line.split("&&")]
        text = "".join(re.split(r"^```.*?^```", page.read_text("utf-8"), flags=re.S | re.M))
        spans = re.findall(rf"`({ENTRIES}[^`]+)`", text.replace("\n", " "))
        lines += [span[0] for span in spans if re.search(r"\.py\b|-m ", span[0])]
        found += [(page.name, line) for line in lines if re.match(ENTRIES, line)]
    return found


def known_options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def options_in(script: Path) -> set[str]:
    """Of a script, by its text: arguments of a parser, and fields of a dataclass that is read as options."""
    text = script.read_text("utf-8")
    fields = re.findall(r"^    (\w+): .* = option\(", text, flags=re.M)
    return set(re.findall(r"add_argument\(\s*\"(--\w+)\"", text)) | {f"--{name}" for name in fields}


@cache
def options_of(*target: str) -> set[str]:
    """Every option of a script (`file`) or a module (`-m`, name) of this repository, by its own `--help`."""
    with pytest.MonkeyPatch.context() as patch:
        kept: list[argparse.ArgumentParser] = []
        read = argparse.ArgumentParser.parse_known_args

        def parse(self, *arguments, **named):
            kept.append(self)
            return read(self, *arguments, **named)

        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        patch.setattr("sys.argv", [target[-1], "--help"])
        try:
            with pytest.raises(SystemExit) as ended:
                if target[0] == "-m":
                    runpy.run_module(target[1], run_name="__main__")
                else:
                    runpy.run_path(target[0], run_name="__main__")
        except ModuleNotFoundError:  # of an extra that is not installed, such as Gradio
            return options_in(Path(target[0]))
        assert not ended.value.code and kept, target
    return known_options(kept[0])


def check(command: str) -> None:
    words = shlex.split(re.sub(r"\[[^\]]*\]", "", command))  # [your data] stands for options
    launcher: set[str] = set()
    if words[0] == "accelerate":
        launcher, words = known_options(launch_command_parser()), words[2:]
    elif words[0] == "torchrun":
        launcher, words = known_options(get_args_parser()), words[1:]
    else:
        words = words[1:]
    start = next(n for n, word in enumerate(words) if word == "-m" or word.endswith(".py"))
    given = [word.split("=")[0] for word in words[:start] if word.startswith("-")]
    assert set(given) <= launcher, f"the launcher has no {set(given) - launcher}"
    target = tuple(words[start : start + 2]) if words[start] == "-m" else (words[start],)
    arguments = words[start + len(target) :]
    if target[0] != "-m":
        path = ROOT / target[0]
        assert path.is_file(), f"no {target[0]}"
        if path.name in OF_TRAINING:
            parse_arguments(arguments)
            return
        if path.is_relative_to(ROOT / "tests"):
            return
        target = (str(path),)
    elif target[1].split(".")[0] != "benchmarks":
        return  # a tool of others
    given = {word.split("=")[0] for word in arguments if word.startswith("--")}
    assert given <= options_of(*target), f"{target[-1]} has no {given - options_of(*target)}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_a_command_names_what_is_there(page, command, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.chdir(tmp_path)
    check(command)


def test_targets_of_make():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    asked = {word for page in PAGES for line in commands_of(page) for word in re.findall(r"^make (\w+)", line)}
    assert asked and asked <= set(re.findall(r"^(\w+):", makefile, flags=re.M))


def test_options_in_the_text_are_options_of_something():
    """Code spans such as `--eval_users N`."""
    kinds = (DataArguments, EncoderArguments, AlignmentArguments, RARecTrainingArguments)
    known = {f"--{name}" for kind in kinds for name in kind.__dataclass_fields__} | {"--help", "--config"}
    known |= known_options(launch_command_parser())
    for script in [*ROOT.glob("examples/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("model_cards/*.py")]:
        known |= options_in(script)
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
        named = set(re.findall(r"`(--[a-z][\w-]*)", text))
        assert named <= known, f"{page.name}: nothing takes {named - known}"


def test_the_checks_see_what_is_wrong(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    for command in (
        "python examples/no_such.py",
        "python examples/recommend.py outputs/rarec --no_such 1",
        "accelerate launch --no_such 1 examples/train.py",
    ):
        with pytest.raises(AssertionError, match="no"):
            check(command)
    for command in ("accelerate launch examples/train.py --no_such 1", "python examples/train.py --eval_users many"):
        with pytest.raises((SystemExit, ValueError)):
            check(command)


def test_shell_blocks_are_read():
    assert any(block.language == "bash" for page in PAGES for block in blocks_of(page))
    assert len(commands()) > 15
