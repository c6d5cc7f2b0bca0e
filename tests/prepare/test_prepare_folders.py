"""Folders that cannot be made or written, and disks that fill up: one line that names the key, and exit status 2."""

import os
import resource
import sys

import pytest
import support.raw_sources as raw

from recbole_gr import cli

BEAUTY = ["prepare", "amazon-2014", "--category=Beauty", "--core=0"]


def error_of(capsys, *options):
    """What the command says, which ends with status 2."""
    capsys.readouterr()
    assert cli.main([*BEAUTY, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err.rstrip("\n")


@pytest.fixture
def small_disk():
    """No file may grow beyond 200,000 bytes, as if the disk were full: the system raises an OSError in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("raw_dir", ["file", "file/x", "file/x/y"])
@pytest.mark.parametrize("download", [True, False])
def test_a_raw_dir_that_is_no_folder(raw_dir, download, capsys):
    open("file", "w").close()
    said = error_of(capsys, f"--raw_dir={raw_dir}", f"--download={download}")
    assert said == f"error: raw_dir='{raw_dir}': the folder cannot be read (Not a directory)"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_folders_that_cannot_be_made(capsys):
    said = error_of(capsys, "--raw_dir=/proc/x")
    assert said == "error: raw_dir='/proc/x': the folder cannot be made (No such file or directory)"
    raw.write_amazon_2014("raw")
    said = error_of(capsys, "--raw_dir=raw", "--output_dir=/proc/x")
    name = "amazon-beauty-2014"
    assert said == f"error: output_dir='/proc/x': the folder {name} in it cannot be written (No such file or directory)"


@pytest.mark.parametrize("output_dir", ["file", "file/x", "out"])
def test_an_output_dir_that_is_no_folder(output_dir, capsys):
    raw.write_amazon_2014("raw")
    open("file", "w").close()
    os.makedirs("out")
    open("out/amazon-beauty-2014", "w").close()
    said = error_of(capsys, "--raw_dir=raw", f"--output_dir={output_dir}")
    reason = "File exists" if output_dir == "out" else "Not a directory"
    assert said == f"error: output_dir='{output_dir}': the folder amazon-beauty-2014 in it cannot be written ({reason})"


def test_a_disk_that_fills_up_while_interactions_are_read(small_disk, capsys):
    raw.write_amazon_2014("raw", pairs=[(f"u{n}", f"i{n % 89}") for n in range(10_000)])  # compressed it is small
    said = error_of(capsys, "--raw_dir=raw", "--output_dir=out")
    assert said == "error: output_dir='out': the folder amazon-beauty-2014 in it cannot be written (File too large)"
    assert os.listdir("out/amazon-beauty-2014") == []


def test_a_disk_that_fills_up_while_items_are_written(small_disk, capsys):
    raw.write_amazon_2014("raw", metadata=[repr({"asin": f"i{n}", "title": "x" * 100_000}) for n in range(4)])
    said = error_of(capsys, "--raw_dir=raw", "--output_dir=out")
    assert said == "error: output_dir='out': the folder amazon-beauty-2014 in it cannot be written (File too large)"
    assert os.listdir("out/amazon-beauty-2014") == []


def test_a_folder_in_the_place_of_a_file(capsys):
    raw.write_amazon_2014("raw")
    os.makedirs("out/amazon-beauty-2014/amazon-beauty-2014.inter")
    said = error_of(capsys, "--raw_dir=raw", "--output_dir=out")
    assert said == "error: output_dir='out': the folder amazon-beauty-2014 in it cannot be written (Is a directory)"
