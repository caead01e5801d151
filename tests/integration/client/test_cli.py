"""The command: errors in one sentence, every exit status, help, completion, plugins."""

import importlib.metadata
import shutil
import subprocess

import click
import pytest

from stillmotion import cli
from stillmotion.cli import ExitStatus, root
from stillmotion.cli.groups import ServerCommand
from tests.support import calls, services
from tests.support.command import one_sentence


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["animate", "none.jpg"], 2, "does not exist"),
        (["animate", "{photo}", "--frames", "many"], 2, "not a valid integer"),
        (["animate", "{photo}", "--policy", "near"], 2, "near"),
        (["animate", "{photo}", "--server", "ftp://x"], 2, "http://host:port"),
        (["animate", "{photo}", "--server", "nonsense"], 2, "http://host:port"),
        (["animate", "{photo}", "--key", "ключ"], 2, "contains characters"),
        (["animate", "{photo}", "-o", "no/such/dir/x.mp4"], 2, "there is no directory"),
        (["animate", "{photo}", "-o", "{photo}"], 2, "would overwrite the picture"),
        (["animate"], 2, "Missing argument"),
        (["nonsense"], 2, "No such command"),
        (["animate", "{photo}", "--key", "sm_wrong"], 4, "(invalid_api_key)"),
        (["animate", "{photo}", "--region", "mars"], 4, "(unknown_region)"),
        (["animate", "{photo}", "--frames", "1000"], 4, "(invalid_field)"),
        (["animate", "{photo}", "x" * 10_000], 4, "(prompt_too_long)"),
        (["animate", "{text}"], 4, "(not_an_image)"),
        (["jobs", "show", "nonsense"], 4, "(job_not_found)"),
        (["jobs", "cancel", "../x"], 4, "(not_found)"),
        (["jobs", "watch", "nonsense"], 4, "(job_not_found)"),
        (["jobs", "delete", "nonsense"], 4, "(job_not_found)"),
        (["webhooks", "update", "x"], 2, "--enable"),
        (["completion", "csh"], 2, "csh"),
    ],
)
def test_errors_are_one_sentence_and_a_status(photo_file, store, capsys, arguments, status, words):
    text = photo_file.with_name("text.jpg")
    text.write_text("hello")
    names = {"photo": photo_file, "text": text}
    given = [argument.format(**names) for argument in arguments]
    assert cli.run(given) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert one_sentence(err), err
    assert words in err
    assert calls.rows_in(store) == 0
    assert photo_file.stat().st_size > 50_000


def test_an_unreachable_server_is_status_3(photo_file, monkeypatch, capsys):
    monkeypatch.setattr("stillmotion.wire.BACKOFF_CAP_S", 0.02)
    address = f"http://127.0.0.1:{services.free_port()}"
    arguments = ["animate", str(photo_file), "--server", address, "--key", "k"]
    assert cli.run(arguments) == ExitStatus.UNREACHABLE
    assert one_sentence(capsys.readouterr().err)


def test_a_missing_key_names_its_variable(photo_file, capsys):
    assert cli.run(["animate", str(photo_file)]) == ExitStatus.USAGE
    assert "STILLMOTION_API_KEY" in capsys.readouterr().err


def test_the_help_lists_every_exit_status(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    for status in ExitStatus:
        assert any(line.split()[:1] == [str(status.value)] for line in text.splitlines()), status


def _commands(group, path=("stillmotion",)):
    for name, command in group.commands.items():
        here = (*path, name)
        if isinstance(command, ServerCommand):
            command = command.load(" ".join(here))
        if isinstance(command, click.Group):
            yield from _commands(command, here)
        else:
            yield here, command


def test_every_command_has_json():
    without = {
        path
        for path, command in _commands(root.cli)
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == {("stillmotion", "completion")}  # it prints a script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands(shell, monkeypatch, capsys):
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_STILLMOTION_COMPLETE={shell}_complete" in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n"], input=script, text=True, check=True)
    monkeypatch.setenv("_STILLMOTION_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "stillmotion jobs wa")
    monkeypatch.setenv("COMP_CWORD", "wa" if shell == "fish" else "2")
    with pytest.raises(SystemExit) as ended:
        cli.run([])
    assert ended.value.code == 0
    assert "watch" in capsys.readouterr().out


def test_an_installed_package_can_add_a_command(monkeypatch, capsys):
    point = importlib.metadata.EntryPoint("wave", f"{__name__}:wave", "stillmotion.commands")
    real = importlib.metadata.entry_points

    def entry_points(**wanted):
        if wanted.get("group") == point.group and wanted.get("name", "wave") == "wave":
            return importlib.metadata.EntryPoints([point])
        return real(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert cli.run(["wave"]) == 0
    assert capsys.readouterr().out == "hello\n"


@click.command()
def wave():
    click.echo("hello")
