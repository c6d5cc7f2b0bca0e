"""``recbole-gr run`` as a process: what goes to stdout, to stderr and into the log, on a terminal and without; Ctrl-C."""

import fcntl
import glob
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from support.forked import Forked, finished

from recbole_gr import cli

PROGRAM = [sys.executable, "-m", "recbole_gr"]


@pytest.fixture
def settings(small_part, tiny_settings):
    """The small part and the tiny settings in a yaml file; the arguments that name them."""
    with open("tiny.yaml", "w") as file:
        json.dump({key: value for key, value in tiny_settings.items() if key != "show_progress"}, file)
    return ["--dataset=small", "--config_files=tiny.yaml"]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def printed_values(stdout):
    """The lines of a result by their first word."""
    return {line.split()[0]: line.split()[1:] for line in stdout.splitlines()}


def test_results_on_stdout_and_a_log_of_lines_on_stderr(settings):
    """With a value that holds "=" and blanks, which the true encoder reads texts by."""
    template = "{movie_title} (year = {release_year})"
    arguments = [*settings, "--item-vector-file=None", "--text-template", template]
    done = subprocess.run([*PROGRAM, "run", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    values = printed_values(done.stdout)
    assert list(values) == ["valid", "test", "record", "checkpoint"]
    record = json.loads(read(values["record"][0]))
    for split in ("valid", "test"):
        assert values[split] == [f"{metric}={value:.4f}" for metric, value in record[split].items()]
    assert values["checkpoint"] == glob.glob("saved/TIGER-*[0-9].pth")
    assert record["config"]["text_template"] == template == record["semantic_ids"]["source"]["text_template"]
    same = ["--dataset=small", "--config_files=tiny.yaml", "--item_vector_file=None", f"--text_template={template}"]
    assert record["command"] == ["recbole-gr", "run", *same]
    assert record["config"]["show_progress"] is False

    log = done.stderr
    assert "\x1b" not in log + done.stdout and "\r" not in log and "it/s" not in log
    assert log.count(" training [time: ") == record["stages"]["training"]["times"] == 2
    assert "TIGER on small, seed 2020; settings that differ from the defaults (--verbose prints all):\n" in log
    assert (
        "  codebook_size = 16 (in tiny.yaml)\n" in log and f"  text_template = {template!r} (on the command line)\n" in log
    )
    assert "learner = adamw" not in log
    (path,) = glob.glob("log/TIGER/*.log")
    assert "epoch 1 training" in read(path) and "test result" in read(path)


def test_verbose_prints_all_settings_and_the_users_bar_wins(settings):
    arguments = ["--model=Pop", *settings, "--verbose", "--show_progress=True", "--allow_unknown=True"]
    status, printed, log = finished(["run", *arguments])
    assert status == 0, log[-2000:]
    assert "learner = adam" in log and "Training Hyper Parameters:" in log and "Evaluate" in log
    assert list(printed_values(printed)) == ["valid", "test", "record", "checkpoint"]


def test_a_terminal_gets_bars_and_colours(settings):
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # tqdm shows no bar on one without lines
    process = Forked(["run", "--model=Pop", *settings, "--allow_unknown=True"], "stdout.txt", its_end)
    os.close(its_end)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # Linux says so that nobody writes any more
            break
    assert process.wait() == 0 and "test" in printed_values(read("stdout.txt"))
    assert b"\x1b[" in shown and b"Train     0" in shown and b"it/s" in shown


@pytest.mark.parametrize(
    ("number", "word", "expected_status"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_ctrl_c_prints_the_command_that_goes_on(settings, number, word, expected_status):
    endless = ["run", *settings, "--epochs=100000", "--stopping_step=100000"]
    process = Forked(endless, "stdout.txt", "stderr.txt")
    deadline = time.monotonic() + 240
    while not glob.glob("saved/*.last.pth") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    assert process.wait(120) == expected_status, read("stderr.txt")[-2000:]
    printed, log = read("stdout.txt"), read("stderr.txt")
    assert printed == "" and "Traceback" not in log
    (checkpoint,) = glob.glob("saved/TIGER-*[0-9].pth")
    *_, interrupted, what, command = log.splitlines()
    assert interrupted == word and what == "to go on after the last validated epoch:"
    words = shlex.split(command)
    expected = ["recbole-gr", "run", *settings, "--epochs=100000", "--stopping_step=100000", f"--resume={checkpoint}"]
    assert words == expected

    fewer = [word.replace("--epochs=100000", "--epochs=2") for word in words[1:]]
    status, printed, log = finished(fewer)
    assert status == 0, log[-2000:]
    values = printed_values(printed)
    assert values["checkpoint"] == [checkpoint] and values["test"]


def test_ctrl_c_before_anything_is_saved(settings, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_gr.integration.check_run.check_run", interrupted)
    assert cli.main(["run", *settings]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_resumed_command_is_interrupted_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/recbole-gr", "run", "--resume=old.pth", "--text_template={a} {b}"])
    assert cli.resuming_command("saved/new.pth") == "recbole-gr run '--text_template={a} {b}' --resume=saved/new.pth"
    monkeypatch.setattr(sys, "argv", ["run_recbole_gr.py", "--model=BPR"])
    assert cli.resuming_command("saved/new.pth") == "python run_recbole_gr.py --model=BPR --resume=saved/new.pth"


def test_the_script_is_the_command_run(settings):
    script = os.path.join(os.path.dirname(os.path.dirname(cli.__file__)), os.pardir, "run_recbole_gr.py")
    done = subprocess.run([sys.executable, script, *settings, "--beam_size=5"], capture_output=True, text=True)
    message = "error: beam_size=5: must be at least the largest k of topk, 10 (set on the command line)\n"
    assert done.returncode == 2 and done.stderr == message
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: recbole-gr run")
