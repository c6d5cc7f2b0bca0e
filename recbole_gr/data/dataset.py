"""The RecBole datasets of our models: histories made on demand, their times, and the semantic IDs of the items."""

import copy
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_gr.data.item_vectors import make_injected_vectors
from recbole_gr.data.order import exact_times
from recbole_gr.data.semantic_id_source import make_semantic_ids
from recbole_gr.data.training_part import training_part
from recbole_gr.tokenizers import SemanticIDs
from recbole_gr.utils.arrays import padded_stretches
from recbole_gr.utils.errors import SettingError
from recbole_gr.utils.stopwatch import Stages


class HistoryDataset(SequentialDataset):
    """RecBole's sequential dataset without its padded copies.

    Like RecBole, every interaction but a user's first becomes one sample: the items before it, at most
    ``MAX_ITEM_LIST_LENGTH`` of them, and the item itself. Unlike RecBole, which stores each history as a padded row
    (memory: samples x length, filled in a Python loop), a sample keeps where its history lies in one flat array of
    all items, and ``dataset[index]`` lays out the histories that are asked for.

    Attributes:
        item_sequence: int64 ``[interactions]``, the items of all users and parts, each user's in order of time.
        first_row: int64 ``[interactions]``, where in ``item_sequence`` the user's items begin.
    """

    inter_feat: Any
    item_sequence: torch.Tensor
    first_row: torch.Tensor

    def data_augmentation(self) -> None:
        """Keep where each history lies, in place of RecBole's padded rows."""
        self._aug_presets()
        self._check_field("uid_field", "time_field")
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        users = self.inter_feat[self.uid_field].numpy()
        row = np.arange(len(users))
        is_first = np.append(True, users[1:] != users[:-1])
        first_row = np.maximum.accumulate(np.where(is_first, row, 0))
        target = np.flatnonzero(~is_first)
        length = np.minimum(target - first_row[target], self.max_item_list_len)

        self.item_sequence = self.inter_feat[self.iid_field]
        self.first_row = torch.from_numpy(first_row)
        self.inter_feat = Interaction({field: self.inter_feat[field][target] for field in self.inter_feat})
        self.inter_feat[self.item_list_length_field] = torch.tensor(length)
        self.inter_feat[self.history_end_field] = torch.tensor(target)
        self.set_field_property(self.history_end_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)

    @property
    def sample_lengths(self) -> torch.Tensor:
        """What a sample's history costs to read, int64 ``[samples]``: its items. Training batches are made by it."""
        return self.inter_feat[self.item_list_length_field]

    @property
    def list_columns(self) -> dict[str, torch.Tensor]:
        """What a history is made of, by the name of its column: ``[interactions]`` each, in the order of ``item_sequence``."""
        return {self.iid_field + self.config["LIST_SUFFIX"]: self.item_sequence}

    @property
    def history_end_field(self) -> str:
        """Name of the column that says where in ``item_sequence`` a sample's history ends."""
        return self.iid_field + "_history_end"

    def __getitem__(self, index: Any, join: bool = True) -> Any:
        return self._laid_out(super().__getitem__(index, join))

    def with_history_of(self, index: torch.Tensor, length: torch.Tensor) -> Interaction:
        """Samples of which only the last items of the history are read.

        Args:
            index: int64 ``[b]``, the samples.
            length: int64 ``[b]``, items of the history; at most those that the sample has.
        """
        sample = super().__getitem__(index)
        sample[self.item_list_length_field] = length
        return self._laid_out(sample)

    def _laid_out(self, sample: Any) -> Any:
        if self.history_end_field not in sample:  # the files of ``benchmark_filename`` bring their histories
            return sample
        end, length = sample[self.history_end_field], sample[self.item_list_length_field]
        for field, values in self.list_columns.items():
            history = padded_stretches(values, end - length, length, self.max_item_list_len)
            sample.update(Interaction({field: history}))
        return sample

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        if value_field is not None:
            raise ValueError(
                f"value_field={value_field!r}: must be None; the values of a user's first interaction are not kept"
            )
        laid_out = copy.copy(self)
        # RecBole takes the first items from the histories
        laid_out.inter_feat = self.__getitem__(slice(None), False)  # no join
        return super(HistoryDataset, laid_out).inter_matrix(form)


class TimedHistoryDataset(HistoryDataset):
    """Histories with the time of each of their items, in whole units of the file: a list as long as that of the items.

    RecBole's own lists of times are float32, in which the seconds of a day are all one; these are int64.

    Attributes:
        time_sequence: int64 ``[interactions]``, beside ``item_sequence``; None where a ready-made split has no times.
    """

    time_sequence: torch.Tensor | None = None

    @property
    def _exact_time_field(self) -> str:
        return self.time_field + "_exact"

    def _dataframe_to_interaction(self, data: Any) -> Interaction:
        converted = super()._dataframe_to_interaction(data)
        if data is self.inter_feat and self.benchmark_filename_list is None and self.time_field in data:
            times = exact_times(self, data).round().astype(np.int64)
            converted.update(Interaction({self._exact_time_field: torch.from_numpy(times)}))
        return converted

    def data_augmentation(self) -> None:
        self._check_field("uid_field", "time_field")
        if self._exact_time_field not in self.inter_feat:
            if self.config["time_bias"]:
                raise SettingError("time_bias", True, f"must be False, the files have no column {self.time_field}")
            super().data_augmentation()
            return
        # sorted with the rest, and no field of the samples
        self.sort(by=[self.uid_field, self.time_field], ascending=True)
        self.time_sequence = self.inter_feat[self._exact_time_field]
        self.inter_feat.drop(self._exact_time_field)
        super().data_augmentation()

    @property
    def list_columns(self) -> dict[str, torch.Tensor]:
        if self.time_sequence is None:
            return super().list_columns
        return {**super().list_columns, self.time_field + self.config["LIST_SUFFIX"]: self.time_sequence}


class SemanticIDDataset(HistoryDataset):
    """Histories, and the semantic IDs of the catalogue.

    Attributes:
        semantic_ids: codes by item id.
        semantic_id_measures: how good they are, see :func:`recbole_gr.tokenizers.measures.diagnose`.
        injected_vectors: float32 ``[n_items, d]`` by name, what the model is to read beside the codes.
        stages: what making them cost, for the run record.

    Raises:
        RecBoleGRError: a setting or the item file cannot work; raised before any long work.
    """

    semantic_ids: SemanticIDs
    semantic_id_measures: dict[str, Any]
    injected_vectors: dict[str, np.ndarray]
    stages: Stages

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        item_tokens = self.field2id_token[self.iid_field].astype(str)
        part = cache(partial(training_part, self))
        self.semantic_ids, self.semantic_id_measures, self.stages = make_semantic_ids(config, item_tokens, part)
        self.injected_vectors = make_injected_vectors(config, item_tokens, part, self.stages)
