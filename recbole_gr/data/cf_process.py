"""A process that trains a model of RecBole for its item embedding: ``python -m recbole_gr.data.cf_process JOB.json``.

RecBole's Config reads the command line, and its training sets random states, files and loggers that belong to the whole process.
In a process of its own nothing of that reaches the run that needs the vectors; what it writes lies in a folder that is removed.
"""

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

import recbole_gr  # noqa: F401  patches RecBole before it is imported
from recbole_gr.data.cf_models import OF_THE_RUN
from recbole_gr.data.trained_model import choose_item_embedding
from recbole_gr.data.training_part import TrainingPart
from recbole_gr.utils.cache import Artifact
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.process_group import without_place
from recbole_gr.utils.temporary_folders import temporary_folder

_NAME = "training_part"


def train_in_a_process(
    part: TrainingPart, model: str, settings: dict[str, Any], parameter: str | None, threads: int
) -> Artifact:
    """Train a model of RecBole on a training part.

    Args:
        part: the training part; nothing else of the dataset reaches the process.
        model: a general or sequential model of RecBole.
        settings: of RecBole, with ``seed``, ``epochs`` and where to compute; :data:`~recbole_gr.data.cf_models.OF_THE_RUN` come on top.
        parameter: name of the item embedding in the model's ``state_dict``; None: as for a checkpoint.
        threads: that torch may use.

    Returns:
        ``vectors`` float32 ``[len(part.item_tokens), d]``; ``cf_parameter``, ``cf_train_loss``, that of the last epoch, and ``cost``,
        ``seconds`` and ``cpu_seconds``, the start of the process included.

    Raises:
        SettingError: the model cannot be trained like this, or has no item embedding.
    """
    start = time.perf_counter()
    # The process begins in another folder, from where a relative path leads nowhere.
    paths = [
        os.path.dirname(os.path.dirname(recbole_gr.__file__)),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    environment = {**without_place(os.environ), "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths))}
    with temporary_folder("recbole_gr-cf-") as folder:
        job = {
            "model": model,
            "settings": settings,
            "parameter": parameter,
            "threads": threads,
            "n_items": len(part.item_tokens),
        }
        with open(os.path.join(folder, "job.json"), "w", encoding="utf-8") as file:
            json.dump(job, file)
        _write_interactions(part, folder)
        command = [sys.executable, "-m", "recbole_gr.data.cf_process", "job.json"]
        with subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.PIPE) as process:
            try:
                status = process.wait()
            finally:
                process.kill()  # nothing happens to one that has ended
        answer = os.path.join(folder, "answer.json")
        if not os.path.exists(answer):
            raise SettingError("cf_model", model, f"its training ended with status {status}")
        with open(answer, encoding="utf-8") as file:
            meta = json.load(file)
        if "key" in meta:
            raise SettingError(meta["key"], meta["value"], meta["allowed"])
        vectors = np.load(os.path.join(folder, "vectors.npy"), allow_pickle=False)
    cost = {"seconds": time.perf_counter() - start, "cpu_seconds": meta.pop("cpu_seconds")}
    return {"vectors": vectors}, {**meta, "cost": cost}


def _write_interactions(part: TrainingPart, folder: str) -> None:
    """Users and items by their numbers, which no separator or encoding can spoil; the time is the place in the history."""
    os.makedirs(os.path.join(folder, _NAME))
    user = np.repeat(np.arange(len(part.first) - 1), np.diff(part.first))
    place = np.arange(len(user)) - part.first[user]
    table = np.column_stack([user, part.items, place])
    path = os.path.join(folder, _NAME, f"{_NAME}.inter")
    np.savetxt(path, table, "%d", "\t", header="user_id:token\titem_id:token\ttimestamp:float", comments="")


def _train(job: dict[str, Any]) -> dict[str, Any]:
    """Train, write ``vectors.npy``, and return what is to be known of it."""
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset
    from recbole.data.utils import create_samplers, get_dataloader
    from recbole.utils import get_trainer, init_seed

    torch.set_num_threads(job["threads"])
    given = {**job["settings"], **OF_THE_RUN, "data_path": os.getcwd(), "checkpoint_dir": os.path.join(os.getcwd(), "saved")}
    config = Config(job["model"], _NAME, config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    built = dataset.build()
    sampler = create_samplers(config, dataset, built)[0]
    loader = get_dataloader(config, "train")(config, built[0], sampler, shuffle=True)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loader._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(loader, None, saved=False, show_progress=config["show_progress"])

    matrices = {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
    name = choose_item_embedding(job["model"], matrices, dataset.item_num, job["parameter"])
    row_of = dataset.field2token_id[dataset.iid_field]
    rows = torch.tensor([row_of[str(item)] for item in range(job["n_items"])])
    vectors = matrices[name][rows].float().numpy()
    if not np.isfinite(vectors).all():
        raise SettingError("cf_model", job["model"], "its item embedding is not finite; a smaller learning_rate may help")
    np.save("vectors.npy", vectors)
    losses = list(trainer.train_loss_dict.values())
    loss = round(float(np.sum(losses[-1])), 6) if losses else None
    return {"cf_parameter": name, "cf_train_loss": loss, "cpu_seconds": time.process_time()}


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return _train(job)
    except SettingError as error:
        key = error.key if error.key == "cf_parameter" else "cf_model"
        return {"key": key, "value": job["parameter"] if key == "cf_parameter" else job["model"], "allowed": error.allowed}
    except Exception as error:  # a model of RecBole fails on settings with nearly any
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return {"key": "cf_model", "value": job["model"], "allowed": f"cannot be trained with these cf_settings ({reason})"}


def _end_with_the_run() -> None:
    """End where the run ends that waits for the vectors, even by SIGKILL: its end of the pipe that is stdin here is closed then."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_the_run()
    with open(sys.argv.pop(), encoding="utf-8") as job_file:  # RecBole's Config would read what stands in sys.argv
        answered = _answer(json.load(job_file))
    with open("answer.json", "w", encoding="utf-8") as answer_file:
        json.dump(answered, answer_file)
