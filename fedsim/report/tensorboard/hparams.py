"""What TensorBoard's HParams page compares runs by: their settings, and their scores beside them."""

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2

from fedsim.settings.fields import Settings

TAGS = (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)

# Where and how a run was computed, which its scores don't depend on.
_LEFT_OUT = {setting.name for setting in fields(Settings) if setting.metadata["theme"] == "Machine"} | {"data_root"}


def start(name: str, settings: Mapping[str, Any]) -> Summary.Value:
    """A run's settings, those that decide what it computes. Runs of one name would share a row."""
    compared = {setting: value for setting, value in settings.items() if setting not in _LEFT_OUT}
    return summary_v2.hparams_pb(compared, trial_id=name).value[0]


def end() -> Summary.Value:
    """The run has come to its end."""
    ended = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
    content = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=ended))
    return Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=content, tensor=metadata.NULL_TENSOR)
