"""Settings: one TOML file or preset into nested frozen dataclasses, strict, with overrides `coder.k=64`."""

from plainspoken.config.load import (
    Setting,
    config_from_tree,
    config_tree,
    flat_settings,
    load_config,
    preset_names,
    settings_help,
)
from plainspoken.config.schema import (
    CalibrateConfig,
    CoderConfig,
    Config,
    CorpusConfig,
    EvaluateConfig,
    ExplainConfig,
    LmConfig,
    ReportConfig,
    SimulateConfig,
    TrainConfig,
)

__all__ = [
    "CalibrateConfig",
    "CoderConfig",
    "Config",
    "CorpusConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "LmConfig",
    "ReportConfig",
    "Setting",
    "SimulateConfig",
    "TrainConfig",
    "config_from_tree",
    "config_tree",
    "flat_settings",
    "load_config",
    "preset_names",
    "settings_help",
]
