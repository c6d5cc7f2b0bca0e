"""What a record says of paths: it is there to be published."""

import os

from recbole_gr.experiment.record import portable, portable_command, portable_settings


def test_paths_from_the_current_folder_on_or_by_their_last_part(tmp_path):
    assert portable("data/shop") == "data/shop" and portable("../data") == "../data"
    assert portable(str(tmp_path / "saved" / "SASRec.pth")) == os.path.join("saved", "SASRec.pth")
    assert portable("/srv/models/Qwen3/") == "Qwen3"
    assert portable("/srv/recbole/config/../dataset_example/ml-100k") == "ml-100k"


def test_other_settings_stay_as_they_are(tmp_path):
    settings = {"history_separator": "/", "title_template": "/{title}/{brand}", "topk": [5, 10], "resume": None}
    assert portable_settings(settings) == settings
    paths = {
        "data_path": "/srv/data/shop",
        "llm": "/srv/models/Qwen3",
        "cf_checkpoint": str(tmp_path / "a.pth"),
        "sid_file": None,
    }
    assert portable_settings(paths) == {"data_path": "shop", "llm": "Qwen3", "cf_checkpoint": "a.pth", "sid_file": None}
    assert portable_settings({"checkpoint_dir": "results/board/cells/cell.saved"}) == {"checkpoint_dir": "cell.saved"}
    assert portable_settings({"resume": "board/cell.saved/model.last.pth"}) == {"resume": "model.last.pth"}


def test_the_command(tmp_path):
    command = [
        "/usr/bin/recbole-gr",
        "--data_path=/srv/data",
        "--history_separator=/",
        "--epochs=3",
        f"--resume={tmp_path}/b.pth",
    ]
    assert portable_command(command) == [
        "recbole-gr",
        "--data_path=data",
        "--history_separator=/",
        "--epochs=3",
        "--resume=b.pth",
    ]
