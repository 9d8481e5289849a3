"""Settings: one TOML file or preset into nested frozen dataclasses, strict, with overrides `coder.k=64`."""

from plainspoken.config.coding import (
    CoderConfig,
    CompareConfig,
    CorpusConfig,
    LmConfig,
    MeasureConfig,
    TrainConfig,
)
from plainspoken.config.load import (
    Setting,
    config_from_tree,
    config_tree,
    flat_settings,
    load_config,
    preset_names,
    settings_help,
)
from plainspoken.config.schema import CalibrateConfig, Config, EvaluateConfig, ReportConfig
from plainspoken.config.speaking import (
    HOW_AN_LLM_IS_REACHED,
    ExplainConfig,
    LimitsConfig,
    LlmServiceConfig,
    ScoreConfig,
    SimulateConfig,
)

__all__ = [
    "HOW_AN_LLM_IS_REACHED",
    "CalibrateConfig",
    "CoderConfig",
    "CompareConfig",
    "Config",
    "CorpusConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "LimitsConfig",
    "LlmServiceConfig",
    "LmConfig",
    "MeasureConfig",
    "ReportConfig",
    "ScoreConfig",
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
